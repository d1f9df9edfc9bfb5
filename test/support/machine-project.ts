import { readFile } from 'node:fs/promises'
import { baseDisk } from './base-disk.ts'
import { makeProject, type TestProject } from './project.ts'
import type { RepoFiles } from './repo.ts'

/** Debian's busybox-static: one program that serves http and needs no library. */
const BUSYBOX = '/bin/busybox'

const dockerfile = (salt: string) =>
  `FROM scratch\nCOPY busybox /bin/\nCOPY index.html /www/\nENV PATH=/bin SALT=${salt}\nCMD ["busybox", "httpd", "-f", "-p", "3000", "-h", "/www"]\n`

export const busybox = async () => ({ executable: await readFile(BUSYBOX) })

/** A page over http, small enough for a machine that is emulated. */
export async function pageFiles(text = 'hello'): Promise<RepoFiles> {
  return {
    'web/Dockerfile': dockerfile(String(Math.random())),
    'web/busybox': await busybox(),
    'web/index.html': `${text}\n`,
  }
}

interface MachineShape {
  /** What stands under machine.services, indented by four. */
  services: string
  /** More settings of the machine, indented by two. */
  more?: string
  images?: string[]
}

/** bake.yaml of a machine that starts from the disk that `bake base` makes. */
export async function machineYaml({ services, more = '', images = ['web'] }: MachineShape): Promise<string> {
  const { disk } = await baseDisk()
  const contexts = images.map((name) => `  ${name}: { context: ${name} }\n`).join('')
  return `project: shop\nimages:\n${contexts}machine:\n  base: { disk: ${disk} }\n${more}  services:\n${services}`
}

/** A project whose machine is baked on this machine. */
export async function makeMachineProject(
  services: string,
  { files = {}, more }: { files?: RepoFiles; more?: string } = {},
): Promise<TestProject> {
  return makeProject({ ...(await pageFiles()), ...files, 'bake.yaml': await machineYaml({ services, more }) })
}
