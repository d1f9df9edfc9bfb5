import { unavailable } from '../../src/errors.ts'
import type { DeployWorld } from '../../src/fleet/deploy-world.ts'
import type { Group, GroupInstance } from '../../src/io/autoscaling-groups.ts'

/** An instance of a launch template version. */
export const instanceOf = (id: string, version = 1, more: Partial<GroupInstance> = {}): GroupInstance => ({
  ...{ id, lifecycle: 'InService', healthy: true, protected: false },
  template: { id: 'lt-1', name: 'web', version: String(version) },
  ...more,
})

/** As ec2-errors.ts has what AWS says no with. */
export const refusal = (name: string, message = name) =>
  unavailable('ec2_refused', message, { cause: Object.assign(new Error(message), { name }) })

/** A group and one target group, in memory: each look calls `onLook` first, each change `onChange`. */
export class GroupDouble {
  group: Group = {
    ...{ name: 'web', min: 1, desired: 2, max: 2, mixed: false, suspended: [], protectsNew: false },
    ...{ targetGroups: [], otherBalancers: [], warmPool: false, template: { id: 'lt-1', name: 'web', version: '1' } },
    instances: [instanceOf('i-1'), instanceOf('i-2')],
  }
  /** State by instance. */
  readonly targets = new Map<string, string>()
  /** Instances that EC2 doesn't run any more, and the group doesn't know. */
  readonly dead = new Set<string>()
  readonly changes: string[] = []
  onLook: () => void = () => {}
  /** May throw in the place of the change. */
  onChange: (change: string) => void = () => {}

  #change(change: string): void {
    this.onChange(change)
    this.changes.push(change)
  }

  world(): Pick<DeployWorld, 'groups' | 'changes' | 'balancers'> {
    const set = (more: Partial<Group>) => {
      this.group = { ...this.group, ...more }
    }
    return {
      groups: {
        region: 'us-east-1',
        get: async () => {
          this.onLook()
          return structuredClone(this.group)
        },
        suspend: async (_, processes) => {
          this.#change('suspend')
          set({ suspended: [...this.group.suspended, ...processes] })
        },
        resume: async (_, processes) => {
          this.#change('resume')
          set({ suspended: this.group.suspended.filter((each) => !(processes as string[]).includes(each)) })
        },
      },
      changes: {
        update: async (_, { template, ...sizes }) => {
          this.#change('update')
          set({ ...sizes, ...(template && { template: { ...template, name: 'web', version: String(template.version) } }) })
        },
        protect: async (_, ids, on) => {
          this.#change('protect')
          set({ instances: this.group.instances.map((each) => (ids.includes(each.id) ? { ...each, protected: on } : each)) })
        },
        terminate: async (id) => {
          this.#change(`terminate ${id}`)
          set({ desired: this.group.desired - 1, instances: this.group.instances.filter((each) => each.id !== id) })
        },
        trouble: async () => undefined,
      },
      balancers: {
        targetGroups: async () => [],
        mayChange: async () => {},
        targets: async () => [...this.targets].map(([id, state]) => ({ id, state })),
        register: async (_, ids) => {
          const dead = ids.filter((id) => this.dead.has(id))
          for (const id of ids.filter((each) => !dead.includes(each))) {
            this.#change(`register ${id}`)
            this.targets.set(id, 'healthy')
          }
          return dead.length === 0 ? undefined : `${dead.join(', ')} is not in a running state`
        },
        deregister: async (_, targets) => {
          for (const { id } of targets) {
            this.#change(`deregister ${id}`)
            this.targets.delete(id)
          }
        },
      },
    }
  }
}
