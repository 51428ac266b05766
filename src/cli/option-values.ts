/** Option values as commander hands them over: unknown until looked at. */

export function text(options: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = options[name]
  return typeof value === 'string' ? value : undefined
}

export function texts(options: Readonly<Record<string, unknown>>, name: string): string[] {
  const value = options[name]
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : []
}

export function whole(options: Readonly<Record<string, unknown>>, name: string): number | undefined {
  const value = options[name]
  return typeof value === 'number' ? value : undefined
}

/** `NAME` alone takes the value from here, and is left out where there is none. */
export function resolveEnv(given: readonly string[], env: Readonly<Record<string, string | undefined>>): string[] {
  return given.flatMap((one) => {
    if (one.includes('=')) return [one]
    const value = env[one]
    return value === undefined ? [] : [`${one}=${value}`]
  })
}
