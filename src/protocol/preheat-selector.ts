/** The text that says which hosts a preheat is for: read by the supernode, and by an agent before it asks a registry. */
import { DarnerError } from '../core/errors.ts'

export interface SelectorCondition {
  readonly key: 'zone' | 'rack' | 'host'
  /** `*` stands for any characters. */
  readonly wanted: string
}

/** `all` (no condition), or conditions that all must hold: `zone=a`, `rack=b`, `host=web-*`, with commas between. Throws BAD_ARGUMENT. */
export function readSelector(selector: string): SelectorCondition[] {
  if (selector === 'all') return []
  return selector.split(',').map((text) => {
    const match = /^(zone|rack|host)=([A-Za-z0-9._*:-]{1,128})$/.exec(text.trim())
    if (match === null)
      throw new DarnerError('BAD_ARGUMENT', `${JSON.stringify(text.slice(0, 120))} is not a selector`, {
        way: 'use all, zone=NAME, rack=NAME or host=NAME with * for any characters',
      })
    const [, key, wanted = ''] = match
    return { key: key as SelectorCondition['key'], wanted }
  })
}
