import { expect, test } from 'vitest'
import { amiName, amiNamePattern, runOfAmiName } from '../../src/ami/ami-name.ts'
import { newBuildId } from '../../src/names.ts'

const inputs = '0123456789abcdef'.repeat(4)
const run = newBuildId()

test.for(['shop', 'a', `${'very-'.repeat(25)}long`])('the name of an image tells its run: of project %s', (project) => {
  const name = amiName({ project, inputs }, run)
  // https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
  expect(name).toMatch(/^[A-Za-z0-9()[\] ./\-'@_]{3,128}$/)
  expect(name.startsWith(amiNamePattern(project).slice(0, -1))).toBe(true)
  expect(runOfAmiName(name, project)).toBe(run)
})

test.for([
  ['another project', amiName({ project: 'shop-web', inputs }, run)],
  ['by hand', 'bake-shop-v2'],
  ['with something behind it', `${amiName({ project: 'shop', inputs }, run)}-copy`],
  ['with something in the middle', `bake-shop-0123456789ab-x-${run}`],
  ['nothing', ''],
] as const)('a name that is no image of this project’s runs: %s', ([, name]) => {
  expect(runOfAmiName(name, 'shop')).toBeUndefined()
})
