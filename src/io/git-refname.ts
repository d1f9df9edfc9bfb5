/** The rules of git-check-ref-format(1) for a branch, for names that come with a job; one that starts with - is refused as well. */
export function isBranchName(name: string): boolean {
  if (name === '' || name === '@' || name.startsWith('-') || name.endsWith('.')) return false
  if (/[\0-\x20\x7f~^:?*[\\]|\.\.|@\{/.test(name)) return false
  return name.split('/').every((part) => part !== '' && !part.startsWith('.') && !part.endsWith('.lock'))
}
