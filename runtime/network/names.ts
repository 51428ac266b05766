/** The names of the containers on one network, and what they stand for. Case doesn't matter (RFC 4343). */

export interface Named {
  readonly containerId: string
  readonly names: readonly string[]
  readonly ipv4: string
  readonly ipv6: string
  /** What this one alone calls others: their names by its own. */
  readonly links?: ReadonlyMap<string, string>
}

export class Names {
  readonly #byContainer = new Map<string, Named>()

  put(named: Named): void {
    this.#byContainer.set(named.containerId, { ...named, names: named.names.map((one) => one.toLowerCase()) })
  }

  remove(containerId: string): void {
    this.#byContainer.delete(containerId)
  }

  get empty(): boolean {
    return this.#byContainer.size === 0
  }

  /** Addresses of all containers of that name, as the one at `from` knows it; undefined when it is nobody's. */
  addresses(name: string, from = ''): { ipv4: string[]; ipv6: string[] } | undefined {
    const asked = name.toLowerCase().replace(/\.$/, '')
    const asker = [...this.#byContainer.values()].find((one) => from !== '' && one.ipv4 === from)
    const wanted = asker?.links?.get(asked) ?? asked
    const found = [...this.#byContainer.values()].filter((one) => one.names.includes(wanted))
    if (found.length === 0) return undefined
    return {
      ipv4: found.map((one) => one.ipv4).filter((one) => one !== ''),
      ipv6: found.map((one) => one.ipv6).filter((one) => one !== ''),
    }
  }

  /** First name of the container with this IPv4 address. */
  nameOf(ipv4: string): string | undefined {
    return [...this.#byContainer.values()].find((one) => one.ipv4 === ipv4)?.names[0]
  }
}
