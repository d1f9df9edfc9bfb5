import { headline, lastLines } from './notify.ts'
import type { BuildRecord } from './records.ts'

/**
 * The message for an incoming webhook of Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks. `text` says it all by itself,
 * because what is only compatible with Slack (Mattermost, Rocket.Chat) shows that and no blocks.
 */

const MARKS: Partial<Record<BuildRecord['status'], string>> = { built: '✅', tagged: '✅', failed: '❌' }
const WORDS: Partial<Record<BuildRecord['status'], string>> = {
  tagged: 'was tagged (nothing changed in it)',
  cancelled: 'was cancelled',
  superseded: 'was superseded by a newer commit',
}
/** A section holds 3,000 characters. */
const LOG_CHARS = 2_500
export const SHORT_COMMIT = 12

export interface SlackMessage {
  text: string
  blocks: object[]
}

export function slackMessage(record: BuildRecord): SlackMessage {
  const { project, image, status, commit, branch, failure } = record
  const seconds = record.startedAt === undefined ? undefined : ((record.endedAt ?? record.startedAt) - record.startedAt) / 1000
  const where = `\`${commit.slice(0, SHORT_COMMIT)}\`${branch === undefined ? '' : ` on ${code(branch)}`}`
  const took = seconds === undefined ? '' : ` in ${duration(Math.max(0, seconds))}`
  const summary = `${MARKS[status] ?? '⏹'} *${plain(project)}/${plain(image)}* ${WORDS[status] ?? status}${status === 'tagged' ? '' : took}: ${where}`
  const reason = failure && `${plain(headline(failure.message))} (${failure.code})`
  const log = failure ? excerpt(lastLines(failure.message)) : ''
  const details = [
    ...(record.digest === undefined ? [] : [code(record.digest)]),
    ...(record.worker === undefined ? [] : [`worker ${plain(record.worker)}`]),
    failure ? `\`bake logs ${record.build}\`` : `build ${record.build}`,
  ].join(' · ')
  return slackPost({ summary, reason, log, details })
}

/** In mrkdwn. `log`: a block of code, or ''. */
export function slackPost({
  summary,
  reason,
  log = '',
  details,
}: {
  summary: string
  reason?: string | undefined
  log?: string
  details: string
}): SlackMessage {
  const parts = [summary, ...(reason ? [reason] : []), ...(log === '' ? [] : [log])]
  return {
    text: [...parts, details].join('\n'),
    blocks: [
      { type: 'section', text: { type: 'mrkdwn', text: reason ? `${summary}\n${reason}` : summary } },
      ...(log === '' ? [] : [{ type: 'section', text: { type: 'mrkdwn', text: log } }]),
      { type: 'context', elements: [{ type: 'mrkdwn', text: details }] },
    ],
  }
}

/** The last lines that fit, in a block of code. */
export function excerpt(lines: string[]): string {
  const kept: string[] = []
  let chars = 0
  for (const line of lines.toReversed()) {
    const text = plain(line.replaceAll('```', "'''"))
    chars += text.length + 1
    if (chars > LOG_CHARS) break
    kept.unshift(text)
  }
  return kept.length === 0 ? '' : `\`\`\`\n${kept.join('\n')}\n\`\`\``
}

/** Slack's control characters: https://docs.slack.dev/messaging/formatting-message-text */
export const plain = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

export const code = (text: string): string => `\`${plain(text).replaceAll('`', "'")}\``

export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  const minutes = Math.floor(seconds / 60)
  return `${minutes} min ${String(Math.round(seconds - minutes * 60)).padStart(2, '0')} s`
}
