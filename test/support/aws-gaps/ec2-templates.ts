import type { Call } from './ec2.ts'
import { type Answer, answerOf, element, mapItems, refusal } from './ec2-wire.ts'

const DATA = 'LaunchTemplateData.'
/** `TagSpecification` of `LaunchTemplateData.TagSpecification.1.ResourceType` */
const memberOf = (name: string): string => name.slice(DATA.length).split('.')[0]!

/**
 * Part of the stand-in for EC2 (ec2.ts). API_CreateLaunchTemplateVersion: "the new version inherits the launch parameters from the source version, except for
 * the parameters that you specify in LaunchTemplateData"; moto inherits nothing. Versions that it didn't see made are unknown to it.
 * API_DeleteLaunchTemplateVersions, which moto doesn't have (not the default one), and API_ModifyLaunchTemplate, which moto 5.1 doesn't.
 */
export class TemplateGaps {
  /** By region and name: the data of each version, as sent. */
  readonly #versions = new Map<string, [string, string][][]>()

  readonly #deleted = new Set<string>()
  /** By region and name; 1 unless told. */
  readonly #defaults = new Map<string, string>()

  async answer(call: Call): Promise<Answer | undefined> {
    const { action, region, form } = call
    const name = form.get('LaunchTemplateName') ?? ''
    const key = `${region} ${name}`
    const data = [...form].filter(([field]) => field.startsWith(DATA))
    if (action === 'DeleteLaunchTemplateVersions') return this.#delete(call, name)
    if (action === 'ModifyLaunchTemplate') return this.#modify(call, name)
    if (action === 'DescribeLaunchTemplates' || action === 'DescribeLaunchTemplateVersions') return this.#describe(call)
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

  #defaultOf(region: string, name: string | undefined): string {
    return this.#defaults.get(`${region} ${name}`) ?? '1'
  }

  async #describe({ region, form, ask }: Call): Promise<Answer> {
    const { status, body } = await ask(form)
    const versions = mapItems(body, 'launchTemplateVersionSet', (item) => {
      const [name, number] = [element(item, 'launchTemplateName'), element(item, 'versionNumber')]
      if (this.#deleted.has(`${region} ${name} ${number}`)) return undefined
      return item.replace(/<defaultVersion>[^<]*</, `<defaultVersion>${number === this.#defaultOf(region, name)}<`)
    })
    const templates = mapItems(versions, 'launchTemplates', (item) => {
      const number = this.#defaultOf(region, element(item, 'launchTemplateName'))
      return item.replace(/<defaultVersionNumber>[^<]*</, `<defaultVersionNumber>${number}<`)
    })
    return { status, body: templates }
  }

  async #modify({ region, form, ask }: Call, name: string): Promise<Answer> {
    const version = form.get('SetDefaultVersion') ?? ''
    const look = { Action: 'DescribeLaunchTemplateVersions', LaunchTemplateName: name, 'LaunchTemplateVersion.1': version }
    const found = await ask(look)
    if (found.status !== 200 || this.#deleted.has(`${region} ${name} ${version}`))
      return refusal('InvalidLaunchTemplateId.VersionNotFound', `Could not find the version ${version} of ${name}`)
    this.#defaults.set(`${region} ${name}`, version)
    const told = `<launchTemplateName>${name}</launchTemplateName><defaultVersionNumber>${version}</defaultVersionNumber>`
    return answerOf('ModifyLaunchTemplate', `<launchTemplate>${told}</launchTemplate>`)
  }

  #delete({ region, form }: Call, name: string): Answer {
    const isDefault = this.#defaultOf(region, name)
    const lists = { successfully: '', unsuccessfully: '' }
    for (let n = 1; form.has(`LaunchTemplateVersion.${n}`); n++) {
      const version = form.get(`LaunchTemplateVersion.${n}`)!
      const item = `<launchTemplateName>${name}</launchTemplateName><versionNumber>${version}</versionNumber>`
      if (version === isDefault)
        lists.unsuccessfully += `<item>${item}<responseError><code>unexpectedError</code><message>It is the default version</message></responseError></item>`
      else {
        this.#deleted.add(`${region} ${name} ${version}`)
        lists.successfully += `<item>${item}</item>`
      }
    }
    const sets = Object.entries(lists).map(
      ([how, items]) => `<${how}DeletedLaunchTemplateVersionSet>${items}</${how}DeletedLaunchTemplateVersionSet>`,
    )
    return answerOf('DeleteLaunchTemplateVersions', sets.join(''))
  }
}
