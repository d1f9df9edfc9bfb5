import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type CollectionTag, parse, type ScalarTag } from 'yaml'

export const workersFile = (name: string): string => fileURLToPath(new URL(`../../workers/${name}`, import.meta.url))
export const readWorkersFile = (name: string): string => readFileSync(workersFile(name), 'utf8')

type Json = string | number | boolean | null | Json[] | { [key: string]: Json }
export type Table = Record<string, Json>

// biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, which a test names as it goes
export type Loose = any

export interface Template {
  Parameters: Record<string, { Type: string; Default?: Json; [constraint: string]: unknown }>
  Conditions: Table
  Mappings: Record<string, Record<string, Record<string, Json>>>
  Resources: Record<string, { Type: string; Condition?: string; Properties?: Table; [attribute: string]: unknown }>
  Outputs: Record<string, { Value: Json }>
}

/** Short forms of CloudFormation's functions; the long one of `!Ref` and `!Condition` has no prefix. */
const SHORT = ['And', 'Base64', 'Equals', 'FindInMap', 'GetAtt', 'If', 'Join', 'Not', 'Or', 'Ref', 'Sub', 'Condition']
const long = (name: string) => (name === 'Ref' || name === 'Condition' ? name : `Fn::${name}`)

const TAGS = SHORT.flatMap((name): (ScalarTag | CollectionTag)[] => [
  {
    tag: `!${name}`,
    resolve: (text: string) => ({ [long(name)]: name === 'GetAtt' ? split(text) : text }) as never,
  },
  { tag: `!${name}`, collection: 'seq', resolve: (seq) => ({ [long(name)]: (seq as { toJSON(): Json }).toJSON() }) as never },
])
const split = (text: string): string[] => [text.slice(0, text.indexOf('.')), text.slice(text.indexOf('.') + 1)]

/** workers/fleet.yaml with every function in its long form. */
export const readTemplate = (): Template => parse(readWorkersFile('fleet.yaml'), { customTags: TAGS })

const PSEUDO: Record<string, Json> = {
  'AWS::AccountId': '123456789012',
  'AWS::Partition': 'aws',
  'AWS::Region': 'us-east-1',
  'AWS::StackName': 'fleet',
}
const NOTHING = Symbol('AWS::NoValue')
type Value = Json | typeof NOTHING

/**
 * What CloudFormation makes of a template with these parameters: conditions decided, functions resolved, `Ref` of a resource as `<id>` and `GetAtt` as
 * `<id>.<attribute>`. Throws for a name that nothing has, and for a use of a resource that isn't made. https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
 */
export function evaluate(
  template: Template,
  given: Record<string, string>,
): { resources: Template['Resources']; outputs: Table } {
  const parameter = (name: string): Json => {
    const { Type, Default } = template.Parameters[name]!
    const value = given[name] ?? Default
    if (value === undefined) throw new Error(`parameter ${name} has no value`)
    return /^(?:CommaDelimited)?List/.test(Type) ? (String(value) === '' ? [] : String(value).split(',')) : String(value)
  }
  const condition = (name: string): boolean => {
    if (!(name in template.Conditions)) throw new Error(`no condition ${name}`)
    return truth(template.Conditions[name]!)
  }
  const truth = (node: Json): boolean => {
    const [[fn, of]] = Object.entries(node as Table) as [[string, Json]]
    const each = of as Json[]
    if (fn === 'Condition') return condition(of as string)
    if (fn === 'Fn::Equals') return text(resolve(each[0]!)) === text(resolve(each[1]!))
    if (fn === 'Fn::Not') return !truth(each[0]!)
    if (fn === 'Fn::And') return each.every(truth)
    if (fn === 'Fn::Or') return each.some(truth)
    throw new Error(`${fn} is no condition`)
  }
  const made = (name: string): string => {
    const resource = template.Resources[name]
    if (!resource) throw new Error(`nothing is called ${name}`)
    if (resource.Condition && !condition(resource.Condition)) throw new Error(`${name} is used, and isn't made`)
    return name
  }
  const ref = (name: string): Value => {
    if (name === 'AWS::NoValue') return NOTHING
    if (name in PSEUDO) return PSEUDO[name]!
    return name in template.Parameters ? parameter(name) : `<${made(name)}>`
  }
  const attribute = (name: string, path: string) => `<${made(name)}.${path}>`
  const substitute = (pattern: string, own: Table): string =>
    pattern.replaceAll(/\$\{([^!}][^}]*)\}/g, (_, name: string) => {
      if (name in own) return text(resolve(own[name]!))
      const [resource = '', path = ''] = split(name)
      return text(name.includes('::') || !name.includes('.') ? ref(name) : attribute(resource, path))
    })
  const call = (fn: string, of: Json): Value | undefined => {
    const list = of as Json[]
    if (fn === 'Ref') return ref(of as string)
    if (fn === 'Fn::GetAtt') return attribute(list[0] as string, list[1] as string)
    if (fn === 'Fn::If') return resolve(list[condition(list[0] as string) ? 1 : 2]!)
    if (fn === 'Fn::Sub')
      return Array.isArray(of) ? substitute(list[0] as string, list[1] as Table) : substitute(of as string, {})
    if (fn === 'Fn::Join') return (resolve(list[1]!) as Json[]).map(text).join(list[0] as string)
    if (fn === 'Fn::Base64') return Buffer.from(text(resolve(of))).toString('base64')
    if (fn === 'Fn::FindInMap') {
      const [map, first, second] = list.map((each) => text(resolve(each))) as [string, string, string]
      const found = template.Mappings[map]?.[first]?.[second]
      if (found === undefined) throw new Error(`no ${second} of ${first} in mapping ${map}`)
      return found
    }
    if (fn.startsWith('Fn::')) throw new Error(`${fn} is not known here`)
    return undefined
  }
  const resolve = (node: Json): Value => {
    if (Array.isArray(node)) return node.map(resolve).filter((each) => each !== NOTHING) as Json[]
    if (typeof node !== 'object' || node === null) return node
    const entries = Object.entries(node)
    // `Condition` is a key of IAM's too.
    const called = entries.length === 1 ? call(entries[0]![0], entries[0]![1]) : undefined
    if (called !== undefined) return called
    return Object.fromEntries(entries.map(([key, value]) => [key, resolve(value)]).filter(([, value]) => value !== NOTHING))
  }
  const resources = Object.entries(template.Resources)
    .filter(([, { Condition }]) => Condition === undefined || condition(Condition))
    .map(([name, resource]) => [name, { ...resource, Properties: resolve(resource.Properties ?? {}) }])
  const outputs = Object.entries(template.Outputs).map(([name, { Value }]) => [name, resolve(Value)])
  return { resources: Object.fromEntries(resources), outputs: Object.fromEntries(outputs) }
}

function text(value: Value): string {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value)
  throw new Error(`${JSON.stringify(value)} is no text`)
}

/** What a person must give; the rest has defaults. */
export const GIVEN = {
  BakeYaml: 'project: shop\n',
  BucketName: 'acme-bake',
  RepositoryPrefix: 'shop',
  VpcId: 'vpc-1',
  SubnetIds: 'subnet-1,subnet-2',
}
