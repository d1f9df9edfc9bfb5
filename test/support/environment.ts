/** Variables of this process, as they were before when it is disposed of. Also outside of a test run: benches start the same servers. */
export class Environment implements Disposable {
  readonly #before = new Map<string, string | undefined>()

  set(name: string, value: string): void {
    if (!this.#before.has(name)) this.#before.set(name, process.env[name])
    process.env[name] = value
  }

  [Symbol.dispose](): void {
    for (const [name, value] of this.#before)
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    this.#before.clear()
  }
}
