import type { Ssm } from './ssm.ts'

const MISSING = new Set(['ParameterNotFound'])

/** Parameter Store of one region, for values that are no secrets. Errors: see ec2-errors.ts. */
export class SsmParameters {
  readonly #ssm: Ssm

  constructor(ssm: Ssm) {
    this.#ssm = ssm
  }

  /** Over 4 KiB it costs what advanced parameters cost. */
  async put(name: string, value: string): Promise<void> {
    await this.#ssm.call('PutParameter', name, ({ sdk, client }) =>
      client.send(
        new sdk.PutParameterCommand({
          ...{ Name: name, Value: value, Type: 'String', Overwrite: true, Tier: 'Intelligent-Tiering' },
          Description: 'written by bake swap; read by instances that join',
        }),
      ),
    )
  }

  /** One that isn't there is no error. */
  async delete(name: string): Promise<void> {
    await this.#ssm.optional(MISSING, 'DeleteParameter', name, ({ sdk, client }) =>
      client.send(new sdk.DeleteParameterCommand({ Name: name })),
    )
  }
}
