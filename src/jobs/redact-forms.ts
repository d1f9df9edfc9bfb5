/** Lines of a secret shorter than this are too common (`}`, `EOF`) to be looked for. */
const MIN_LINE_CHARS = 8
/** A piece of base64 shorter than this says 30 bits at most and turns up by chance. */
const MIN_PIECE_CHARS = 6
/** Columns at which base64(1) and PEM writers break lines. */
const WRAP_COLUMNS = [76, 64]

/** Every text that a secret is looked for as, itself included: see Redactor. May hold duplicates. `secret` has 4 characters at least. */
export function secretForms(secret: string): string[] {
  const value = secret.trim()
  const lines = value.split(/\r\n|\r|\n/)
  const parts = lines.length === 1 ? [] : lines.map((line) => line.trim()).filter((line) => line.length >= MIN_LINE_CHARS)
  // A file's last newline is part of what `base64 file` encodes.
  const encoded = [value, `${value}\n`, secret].flatMap((text) => wrappedBase64(Buffer.from(text, 'utf8')))
  // Encodings run over a secret as a whole; only printing goes line by line.
  const printed = [value, ...parts].flatMap(printedForms)
  return [secret, ...printed, ...encoded, ...encodedForms(value)].filter((form) => form.trim() !== '')
}

/** As it stands, and as it stands within quotes of several kinds. */
function printedForms(text: string): string[] {
  const json = JSON.stringify(text).slice(1, -1)
  return [
    text,
    json,
    // Go's encoding/json, which BuildKit and Docker print with, escapes these three.
    json.replace(/[<>&]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`),
    json.replaceAll('/', '\\/'),
    // Twice: JSON within JSON.
    JSON.stringify(json).slice(1, -1),
    // `set -x` prints a word with quotes like this.
    text.replaceAll("'", "'\\''"),
  ]
}

function encodedForms(text: string): string[] {
  const bytes = Buffer.from(text, 'utf8')
  const url = percentEncode(bytes)
  const hex = bytes.toString('hex')
  return [
    ...alignedBase64(bytes),
    hex,
    hex.toUpperCase(),
    url,
    url.replace(/%[0-9A-F]{2}/g, (octet) => octet.toLowerCase()),
    url.replaceAll('%20', '+'),
    // encodeURIComponent throws on half a surrogate pair.
    text.isWellFormed() ? encodeURIComponent(text) : text,
  ]
}

/** Per RFC 3986: all but unreserved characters escaped. encodeURIComponent leaves !'()* as they are. */
const percentEncode = (bytes: Buffer): string =>
  [...bytes]
    .map((byte) => {
      const char = String.fromCharCode(byte)
      return /[A-Za-z0-9._~-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')

/** Both alphabets; a text without + and / is its own base64url. */
const alphabets = (base64: string): string[] => [base64, base64.replaceAll('+', '-').replaceAll('/', '_')]

/** What base64 shows of `bytes` at each of the three offsets it can have in what is encoded: the characters that nothing else decides. */
function alignedBase64(bytes: Buffer): string[] {
  return [0, 1, 2].flatMap((offset) => {
    const all = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
    const piece = all.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + bytes.length) * 8) / 6))
    return piece.length >= MIN_PIECE_CHARS ? alphabets(piece) : []
  })
}

/** The whole, padded and not, and each of its lines where it is printed wrapped. */
function wrappedBase64(bytes: Buffer): string[] {
  const padded = bytes.toString('base64')
  const bare = padded.replace(/=+$/, '')
  const lines = WRAP_COLUMNS.filter((columns) => padded.length > columns).flatMap(
    (columns) => padded.match(new RegExp(`.{${MIN_LINE_CHARS},${columns}}`, 'g')) ?? [],
  )
  return [padded, bare, ...lines].flatMap(alphabets)
}
