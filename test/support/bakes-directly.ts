import { missingForDisks } from '../../src/io/change-disk.ts'

/** Whether disks can be changed without a virtual machine here: as root, with what bin/setup --machines installs. */
export const bakesDirectly = process.platform === 'linux' && process.getuid?.() === 0 && missingForDisks('root').length === 0
