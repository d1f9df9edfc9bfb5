import { boolean, option, string } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'
import { reportImages, reportPlans } from '../cli/image-report.ts'

export default class Image extends BaseCommand<typeof Image> {
  static override summary = 'Build the images of a commit on a warm worker, push them and print their digests.'
  static override description =
    `A commit is built once: asked for again it is found, and a commit that changes nothing in an image's inputs is only tagged.
Images are defined by the bake.yaml of the commit being built; uncommitted changes are not in it. Ctrl-C detaches, the build goes on.
stdout has one line per image, in bake.yaml's order: <repository>@sha256:<digest>.`
  static override examples = [
    { description: 'HEAD, all images', command: '<%= config.bin %> image' },
    { description: 'one image of a commit', command: '<%= config.bin %> image --sha 1a2b3c4 --image web' },
    { description: 'the tip of a branch, without waiting for it', command: '<%= config.bin %> image --branch main --no-wait' },
    { description: 'in CI', command: '<%= config.bin %> image --sha "$GITHUB_SHA" --branch "$GITHUB_REF_NAME"' },
    { description: 'what would be done, and why', command: '<%= config.bin %> image --dry-run' },
  ]
  static override flags = {
    sha: string({ description: 'commit to build, 4 or more digits', exclusive: ['tag'] }),
    branch: string({ description: 'branch whose tip to build, or that --sha is of; its image tag moves', exclusive: ['tag'] }),
    tag: string({ description: 'git tag to build', exclusive: ['sha', 'branch'] }),
    image: string({ description: 'only this image (repeatable)', multiple: true, multipleNonGreedy: true }),
    rebuild: boolean({
      default: false,
      description: 'build anew although it is published; the commit gets the tag sha-<commit>-r<n>',
    }),
    wait: boolean({ description: 'follow the builds to their end', default: true, allowNo: true }),
    priority: option({
      options: ['normal', 'high'] as const,
      default: 'normal',
      env: 'BAKE_PRIORITY',
      description: 'high overtakes what is queued',
    })(),
    'dry-run': boolean({ default: false, description: 'print what would be done; queue nothing' }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { askForImages } = await import('../context/asker.ts')
    const { sha, branch, tag, image, rebuild, wait, priority, 'dry-run': dryRun } = this.flags
    const asked = await askForImages(await openProject(), {
      subject: { ...(sha ? { sha } : branch ? { branch } : {}), ...(tag ? { tag } : {}) },
      ...(sha && branch ? { branch } : {}),
      images: image ?? [],
      rebuild,
      wait,
      priority,
      dryRun,
      emit: this.emit,
      settled: this.settled,
      signal: this.interrupt,
    })
    const report = dryRun ? reportPlans(asked) : reportImages(asked)
    for (const line of report.lines) this.log(line)
    this.partial = report.document
    if (report.error) throw report.error
    return report.document
  }
}
