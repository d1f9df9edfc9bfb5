export interface TreeEntry {
  /** `entry`: the path that was asked for. `tree`: from the directory that was asked for. `/`-separated. */
  path: string
  /** Six octal digits as git writes them: 040000 tree, 100644 and 100755 file, 120000 symlink, 160000 submodule. */
  mode: string
  oid: string
}

/** Reading commits, trees and blobs of a repository, without a checkout. Paths asked for are from the repository's root; '' is the root itself. */
export interface GitObjects {
  /** The entry at `path` in `commit`, symlinks not followed; undefined when there is none. */
  entry(commit: string, path: string): Promise<TreeEntry | undefined>
  /** Bytes of the blob at `path`; undefined when there is none or it isn't a blob. */
  file(commit: string, path: string): Promise<Uint8Array | undefined>
  /** All entries below the directory `path`, recursively, trees themselves left out; none when it isn't a directory. */
  tree(commit: string, path: string): Promise<TreeEntry[]>
  /** True when `ancestor` is reachable from `commit` (a commit reaches itself). False for an ancestor that this repository doesn't have. */
  reaches(commit: string, ancestor: string): Promise<boolean>
}
