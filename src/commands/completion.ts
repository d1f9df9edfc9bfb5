import { custom as customArg } from '@oclif/core/args'
import { BaseCommand } from '../cli/base.ts'
import { commandWords, SHELLS } from '../cli/completion.ts'

export default class Completion extends BaseCommand<typeof Completion> {
  static override summary = 'Print a completion script for bash, zsh or fish.'
  static override description = `Installs nothing; enable it yourself:
  bash  echo 'source <(bake completion bash)' >> ~/.bashrc
  zsh   bake completion zsh > "\${fpath[1]}/_bake"    (or: source <(bake completion zsh), after compinit)
  fish  bake completion fish > ~/.config/fish/completions/bake.fish`
  static override args = {
    shell: customArg<(typeof SHELLS)[number]>({ description: 'shell to complete for', options: SHELLS })({
      required: true,
      ignoreStdin: true,
    }),
  }

  async run(): Promise<object> {
    const { completionScript } = await import('../cli/completion-scripts.ts')
    const script = completionScript(this.args.shell, commandWords(this.config.commands))
    this.log(script.trimEnd())
    return { shell: this.args.shell, script }
  }
}
