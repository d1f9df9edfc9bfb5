import { z } from 'zod'
import { command, duration, instancePath, name, path, port, portMapping, size, texts, variables } from './fields.ts'

const health = z.strictObject({
  http: z
    .string()
    .regex(/^https?:\/\/[^\s/]+(?:\/\S*)?$/, 'must be an http:// or https:// URL')
    .optional()
    .describe('Healthy when a GET answers 2xx or 3xx.'),
  tcp: port.optional().describe('Healthy when the port accepts a connection.'),
  command: command.optional().describe('Healthy when this ends with 0 inside the container.'),
  within: duration.optional().describe('How long it may take, 60s.'),
})

const standIn = z.strictObject({
  image: z.string().min(1).describe('A name of images, or any reference.'),
  env: variables.optional(),
  command: command.optional(),
  health: health.optional(),
})

const service = z.strictObject({
  image: name.describe('A name of images.'),
  command: command.optional().describe("Instead of the image's CMD."),
  ports: z.array(portMapping).optional().describe('"host:container" or "address:host:container".'),
  env: variables.optional().describe('Environment, baked in.'),
  env_file: instancePath.optional().describe('File of variables on the instance, absolute path.'),
  env_from: z
    .array(
      z
        .string()
        .regex(/^(?:ssm:\/[A-Za-z0-9_.\-/]*[A-Za-z0-9_.-]|secret:[A-Za-z0-9/_+=.@:-]+)$/, 'must be ssm:/path or secret:name'),
    )
    .optional()
    .describe('Variables that are read from AWS as the service starts, never baked: ssm:/path, secret:name. Later ones win.'),
  user: z
    .union([z.string().min(1), z.number().int().min(0)])
    .optional()
    .describe('user or uid[:gid].'),
  volumes: z
    .array(
      z
        .string()
        .regex(
          /^(?:\/[^:]*|[A-Za-z0-9][A-Za-z0-9_.-]*):\/[^:]+(?::(?:ro|rw))?$/,
          'must be /path:/target or name:/target, perhaps with :ro',
        ),
    )
    .optional()
    .describe('/path:/target or name:/target, perhaps with :ro.'),
  memory: size.optional().describe('Limit, such as 512MB.'),
  cpus: z.number().positive().optional().describe('Limit, such as 0.5.'),
  restart: z.enum(['no', 'always', 'on-failure', 'unless-stopped']).optional().describe('Default: always.'),
  after: z.array(name).optional().describe('Services that start before this one.'),
  log: z
    .strictObject({ driver: z.enum(['journald', 'json-file', 'local', 'awslogs', 'none']), options: texts.optional() })
    .optional()
    .describe("docker's log driver."),
  imds: z.boolean().optional().describe('Needs the instance metadata service; proven on AWS only.'),
  health: health
    .optional()
    .describe('When the service counts as up. One kind, or none: the HEALTHCHECK of the image, else that it runs.'),
  proof: z
    .strictObject({
      env: variables.optional().describe('Environment while proven, in place of a missing env_file.'),
      with: z.record(name, standIn).optional().describe('Stand-ins for neighbours, such as a database, by host name.'),
      level: z.enum(['healthy', 'started']).optional().describe('What must be reached. Default: healthy.'),
    })
    .optional()
    .describe('How the boot is proven.'),
})

const base = z.strictObject({
  ami: z
    .union([
      z.strictObject({ id: z.string().regex(/^ami-[0-9a-f]{8,17}$/, 'must be the id of an AMI, ami-…') }),
      z.strictObject({
        owner: z
          .string()
          .regex(/^(?:[0-9]{12}|amazon|aws-marketplace|self)$/, 'must be an account id, amazon, aws-marketplace or self'),
        name: z.string().min(1).describe('Name with * for any text; the newest is taken.'),
      }),
    ])
    .optional()
    .describe('An AMI: { owner, name } or { id }.'),
  disk: z.string().min(1).optional().describe('A raw or qcow2 disk, on one machine.'),
})

const ami = z.strictObject({
  regions: z
    .array(z.string().regex(/^[a-z]{2,}(?:-[a-z]+)+-[0-9]+$/, 'must be a region, such as us-east-1'))
    .optional()
    .describe('Where it is copied to; by a direct bake uploaded to.'),
  share_with: z
    .array(z.string().regex(/^[0-9]{12}$/, 'must be an account id, 12 digits in quotes'))
    .optional()
    .describe('Accounts that may use it.'),
  kms_key: z.string().min(1).optional().describe('Key of the snapshots.'),
  deprecate_after: duration.optional(),
  protect: z.boolean().optional().describe('Protect it from deregistration.'),
  volume: z
    .strictObject({
      size: size.optional(),
      type: z.enum(['gp2', 'gp3', 'io1', 'io2', 'st1', 'sc1', 'standard']).optional(),
      iops: z.number().int().positive().optional(),
      throughput: z.number().int().positive().optional().describe('MiB/s.'),
    })
    .optional()
    .describe('The root volume.'),
  boot_mode: z.enum(['uefi', 'uefi-preferred', 'legacy-bios']).optional(),
  tags: texts.optional(),
})

const instanceType = z.string().regex(/^[a-z0-9-]+\.[a-z0-9-]+$/, 'must be an instance type, such as c7i.large')
const launchTemplate = z
  .string()
  .regex(/^[A-Za-z0-9().\-/_]{3,128}$/, 'must be 3 to 128 letters, digits and ( ) . - / _')
  .describe('Launch template that gets a version per image.')

export const machine = z.strictObject({
  base: base.describe('What the machine image starts from: one of ami and disk.'),
  instance_type: instanceType
    .optional()
    .describe('Of the instance on which Packer bakes and which proves. Default: a small one of the architecture.'),
  also: z
    .array(z.strictObject({ base, instance_type: instanceType.optional(), launch_template: launchTemplate.optional() }))
    .optional()
    .describe('More machine images of each release, from other bases: of another processor architecture, for example.'),
  baker: z
    .enum(['packer', 'direct'])
    .optional()
    .describe(
      'direct: change the last disk, of an AMI upload what changed. packer: boot the base. Left out: disks directly where that works, AMIs with Packer.',
    ),
  templates: path.optional().describe("Directory of templates that replace bake's own."),
  setup: z.array(path).optional().describe('Scripts that run on the machine before it is saved.'),
  ami: ami.optional().describe('How the AMI is registered.'),
  services: z.record(name, service).optional().describe('What runs on the machine, by name.'),
  launch_template: launchTemplate.optional(),
})

export const healthKinds = ['http', 'tcp', 'command'] as const
