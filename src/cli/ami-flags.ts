import { boolean, string } from '@oclif/core/flags'
import { storyFlags } from './base.ts'

/** What `bake ami` takes. */
export const amiFlags = {
  release: string({ description: 'git tag to bake; with --sha the name of the release' }),
  sha: string({ description: 'commit to bake, 4 or more digits; alone its release is called sha-<12 digits>' }),
  'dry-run': boolean({ default: false, description: 'print what would be done; build and bake nothing' }),
  verify: boolean({ default: true, allowNo: true, description: 'prove that all services start without a network' }),
  rebake: boolean({ default: false, description: 'bake anew although it is there' }),
  default: boolean({ default: false, description: 'make the new launch template version the default one' }),
  'refresh-base': boolean({ default: false, description: 'take the newest AMI that machine.base names, from now on' }),
  baker: string({
    options: ['packer', 'direct'],
    description:
      'who bakes, instead of machine.baker, what isn’t there yet (or with --rebake): the image is the same; disks are baked directly where that works',
  }),
  explain: boolean({
    default: false,
    description: 'of a direct bake: tell also which files lie in the blocks that changed',
  }),
  here: boolean({ default: false, env: 'BAKE_HERE', description: 'bake in this process, although workers bake' }),
  wait: boolean({
    default: true,
    allowNo: true,
    description: 'follow what workers bake to its end; --no-wait prints the ids of their bakes',
  }),
  'keep-failed': boolean({
    default: false,
    description: 'on one machine: leave the disk of a failed bake; bake prune removes it',
  }),
  ...storyFlags,
}
