import type { Ec2Place } from '../ami/packer-ami-baker.ts'
import { refused } from '../errors.ts'
import { configuredEndpoint, isEmulated } from '../io/aws-client.ts'

const ADDRESS = /^([A-Za-z0-9.-]+):([0-9]{1,5})$/

/** Where EC2 is, by AWS_ENDPOINT_URL_EC2, AWS_ENDPOINT_URL or the profile's, and BAKE_EC2_SSH. Throws bad_setting (exit 2). */
export async function ec2Place(env: NodeJS.ProcessEnv = process.env): Promise<Ec2Place> {
  const endpoint = await configuredEndpoint('EC2')
  const emulated = isEmulated(endpoint)
  const { BAKE_EC2_SSH: address } = env
  const place = { ...(endpoint !== undefined && { endpoint }), emulated }
  if (!address) return place
  const [, host, port] = ADDRESS.exec(address) ?? []
  if (host === undefined || Number(port) > 65_535)
    throw refused('bad_setting', `BAKE_EC2_SSH=${address} is not host:port`, {
      next: 'give it as 127.0.0.1:2222, or unset it',
    })
  if (!emulated)
    throw refused('bad_setting', 'BAKE_EC2_SSH is for emulators of EC2: an instance of AWS has an address of its own', {
      next: 'unset BAKE_EC2_SSH, or set AWS_ENDPOINT_URL_EC2 to the emulator',
    })
  return { ...place, ssh: { host, port: Number(port) } }
}
