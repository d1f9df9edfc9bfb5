import type { LifecycleRule } from '@aws-sdk/client-s3'

/** A bucket policy, as far as bake reads it. */
export interface BucketPolicy {
  Version: string
  Statement: { Effect?: string; Principal?: unknown; Condition?: { Bool?: Record<string, unknown> } }[]
}

export const NO_POLICY: BucketPolicy = { Version: '2012-10-17', Statement: [] }

/** Days after which objects under `prefix`, and no others, expire; undefined when no rule says so. Older rules name their prefix outside of a filter. */
export const expiryOf = (rules: LifecycleRule[], prefix: string): number | undefined =>
  rules.find((rule) => covers(rule, prefix))?.Expiration?.Days

/** `rules` with an expiry for each of `expiryDays` (prefix → days) that is missing or too early; all others stay as they are. */
export function withExpiry(rules: LifecycleRule[], expiryDays: Record<string, number>): LifecycleRule[] {
  const short = Object.entries(expiryDays).filter(([prefix, days]) => (expiryOf(rules, prefix) ?? 0) < days)
  const made = short.map(([prefix, days]): LifecycleRule => {
    const ID = `bake-${prefix.replace(/\/$/, '').replaceAll('/', '-')}`
    return { ID, Status: 'Enabled', Filter: { Prefix: prefix }, Expiration: { Days: days } }
  })
  const replaced = (rule: LifecycleRule) =>
    short.some(([prefix]) => covers(rule, prefix)) || made.some(({ ID }) => ID === rule.ID)
  return [...rules.filter((rule) => !replaced(rule)), ...made]
}

const covers = (rule: LifecycleRule, prefix: string): boolean =>
  rule.Status === 'Enabled' &&
  rule.Expiration?.Days !== undefined &&
  (rule.Filter?.Prefix ?? (rule as { Prefix?: string }).Prefix) === prefix

/** Whether a policy refuses requests without TLS. */
export const isTlsOnly = ({ Statement }: BucketPolicy): boolean =>
  Statement.some(({ Effect, Condition }) => Effect === 'Deny' && String(Condition?.Bool?.['aws:SecureTransport']) === 'false')

export function withTlsOnly(policy: BucketPolicy, bucket: string, partition: string): BucketPolicy {
  const arn = `arn:${partition}:s3:::${bucket}`
  const statement = {
    Sid: 'BakeTlsOnly',
    Effect: 'Deny',
    Principal: '*',
    Action: 's3:*',
    Resource: [arn, `${arn}/*`],
    Condition: { Bool: { 'aws:SecureTransport': 'false' } },
  }
  return { ...policy, Statement: [...policy.Statement, statement] }
}
