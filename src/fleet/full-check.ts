import type { CommandResult } from '../io/ssm-commands.ts'
import { isCommandEnd } from './aws-answers.ts'
import { GivenUp, type Run } from './full-run.ts'
import { shell } from './full-shell.ts'

/** Services have as long as bake.yaml gives them; the script itself gives up before this. */
const CHECK_SECONDS = 3_600
/** As `bake ami` proves a machine (templates/boot/proof.sh.hbs): waits for its services, tells how they are, and changes nothing. */
const CHECK = `"\${BAKE_LIB:-/usr/local/lib/bake}/proof" check`
/** How long the lines of what a command said may be, in an error. */
const TOLD = 300

/** Waits until the new instances are well by the health checks of their own services, or by EC2's status checks where nobody can be asked. Throws GivenUp. */
export async function askNew(run: Run, instances: string[], deadlineMs: number): Promise<void> {
  const { commands, instances: ec2 } = run.world
  if (!run.full.asked)
    return await run.until({ what: "EC2's status checks of the new instances", deadlineMs }, async () => {
      const { size } = await ec2.passing(instances)
      return size === instances.length ? true : `${size} of ${instances.length} pass`
    })
  await run.until({ what: "the new instances' SSM agents", deadlineMs }, async () => {
    const { size } = await commands.online(instances)
    return size === instances.length ? true : `${size} of ${instances.length} answer`
  })
  const comment = `bake check ${run.document.stack}/${run.at.n}`.slice(0, 100)
  run.check()
  const commandIds = await commands.send({
    ...shell(CHECK, CHECK_SECONDS),
    ...{ instances, comment, repeatable: true },
  })
  const well = new Set<string>()
  await run.until({ what: 'the services of the new instances', deadlineMs: deadlineMs + CHECK_SECONDS * 1000 }, async () => {
    for (const id of instances.filter((each) => !well.has(each))) {
      const { status, details, stdout, stderr } = await resultOf(id, commandIds, commands)
      if (status === 'Success') well.add(id)
      else if (isCommandEnd(status)) throw new GivenUp(`new instance ${id} is not well: ${lastWords(stdout, stderr) || details}`)
    }
    return well.size === instances.length ? true : `${well.size} of ${instances.length} instances are well`
  })
}

/** Of whichever of the commands was sent to the instance. */
async function resultOf(instance: string, sent: string[], commands: Run['world']['commands']): Promise<CommandResult> {
  for (const command of sent.slice(0, -1)) {
    const result = await commands.result(command, instance)
    if (result.status !== 'Unseen') return result
  }
  return await commands.result(sent.at(-1)!, instance)
}

/** What a command said last, on one line. */
export const lastWords = (stdout: string, stderr: string): string => {
  const lines = `${stdout}\n${stderr}`
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^failed to run commands: exit status/.test(line))
  return lines.slice(-5).join('; ').slice(-TOLD)
}
