import type { Call } from './ec2.ts'
import { type Answer, element, refusal } from './ec2-wire.ts'

const DATA = 'LaunchTemplateData.'
/** `TagSpecification` of `LaunchTemplateData.TagSpecification.1.ResourceType` */
const memberOf = (name: string): string => name.slice(DATA.length).split('.')[0]!

/**
 * Part of the stand-in for EC2 (ec2.ts). API_CreateLaunchTemplateVersion: "the new version inherits the launch parameters from the source version, except for
 * the parameters that you specify in LaunchTemplateData"; moto inherits nothing. Versions that it didn't see made are unknown to it.
 */
export class TemplateGaps {
  /** By region and name: the data of each version, as sent. */
  readonly #versions = new Map<string, [string, string][][]>()

  async answer(call: Call): Promise<Answer | undefined> {
    const { action, region, form } = call
    const name = form.get('LaunchTemplateName') ?? ''
    const key = `${region} ${name}`
    const data = [...form].filter(([field]) => field.startsWith(DATA))
    if (action === 'CreateLaunchTemplate') {
      const answer = await call.ask(form)
      if (answer.status === 200) this.#versions.set(key, [data])
      return answer
    }
    if (action !== 'CreateLaunchTemplateVersion') return undefined
    const source = form.get('SourceVersion')
    const known = this.#versions.get(key) ?? []
    const inherited = source === null ? [] : known[Number(source) - 1]
    if (inherited === undefined)
      return refusal('InvalidLaunchTemplateId.VersionNotFound', `Could not find the version ${source} of ${name}`)
    const given = new Set(data.map(([field]) => memberOf(field)))
    const merged = [...inherited.filter(([field]) => !given.has(memberOf(field))), ...data]
    const others = [...form].filter(([field]) => !field.startsWith(DATA) && field !== 'SourceVersion')
    const answer = await call.ask(new URLSearchParams([...others, ...merged]))
    const number = Number(element(answer.body, 'versionNumber'))
    if (answer.status === 200) known[number - 1] = merged
    this.#versions.set(key, known)
    return answer
  }
}
