/** Checks messages against their schemas, and schema pieces that plain JSON Schema lacks: bytes and bounded whole numbers. */
import { type Static, type TInteger, type TRefine, type TSchema, type TUnsafe, Type } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { DarnerError } from '../core/errors.ts'

/** Bytes of `minLength` (0 unless given) to `maxLength`; the static type is `Uint8Array`. */
export function Bytes(bounds: { minLength?: number; maxLength: number }): TRefine<TUnsafe<Uint8Array>> {
  const { minLength = 0, maxLength } = bounds
  return Type.Refine(
    Type.Unsafe<Uint8Array>({}),
    (value) => value instanceof Uint8Array && value.byteLength >= minLength && value.byteLength <= maxLength,
    (value) => {
      const want = minLength === maxLength ? `${maxLength} bytes` : `${minLength} to ${maxLength} bytes`
      return value instanceof Uint8Array ? `must be ${want}, is ${value.byteLength}` : `must be ${want}`
    },
  )
}

/** A whole number from 0 to `max`, by default the largest that is exact. */
export function Count(max: number = Number.MAX_SAFE_INTEGER): TInteger {
  return Type.Integer({ minimum: 0, maximum: max })
}

const compiled = new WeakMap<object, Validator>()

/** The value as its schema's type. Throws PROTOCOL_VIOLATION that names the message (`what`) and the path of its first fault. */
export function check<T extends TSchema>(schema: T, value: unknown, what: string): Static<T> {
  const fault = overlong(schema, value, '') ?? (fits(schema, value) ? undefined : firstFault(schema, value, ''))
  if (fault === undefined) return value as Static<T>
  const { path, message } = fault
  const where = path === '' ? '' : ` at ${path.slice(0, 200)}`
  throw new DarnerError('PROTOCOL_VIOLATION', `${what}${where}: ${message.slice(0, 200)}`)
}

interface Fault {
  readonly path: string
  readonly message: string
}

/** What of a schema decides where to look; typebox schemas are plain JSON Schema. */
interface Shape {
  readonly properties?: Readonly<Record<string, object>>
  readonly required?: readonly string[]
  readonly additionalProperties?: unknown
  readonly items?: object
  readonly maxItems?: number
}

function fits(schema: object, value: unknown): boolean {
  let validator = compiled.get(schema)
  if (validator === undefined) {
    validator = Compile(schema as TSchema) as unknown as Validator
    compiled.set(schema, validator)
  }
  return validator.Check(value)
}

/** A list or object with more members than its schema allows: found before any member is looked at. */
function overlong(schema: Shape, value: unknown, path: string): Fault | undefined {
  const { items, maxItems = Number.POSITIVE_INFINITY, properties } = schema
  if (Array.isArray(value)) {
    if (value.length > maxItems) return { path, message: `must not have more than ${maxItems} items` }
    return items === undefined || Array.isArray(items)
      ? undefined
      : firstOf(value, (one, at) => overlong(items, one, `${path}/${at}`))
  }
  if (properties === undefined || !isObject(value)) return undefined
  const known = Object.keys(properties)
  if (schema.additionalProperties === false && Object.keys(value).length > known.length)
    return { path, message: `must not have more than ${known.length} properties` }
  return firstOf(known, (key) => overlong(properties[key] ?? {}, value[key], `${path}/${key}`))
}

/** The first part that doesn't fit, without a look at what follows it: that may be long, and all of it wrong. */
function firstFault(schema: Shape, value: unknown, path: string): Fault {
  const { items, properties } = schema
  if (Array.isArray(value) && items !== undefined && !Array.isArray(items)) {
    const at = value.findIndex((one) => !fits(items, one))
    if (at >= 0) return firstFault(items, value[at], `${path}/${at}`)
  }
  if (properties !== undefined && isObject(value)) {
    const missing = schema.required?.find((key) => !Object.hasOwn(value, key))
    if (missing !== undefined) return { path, message: `must have required property ${missing}` }
    const strange = Object.keys(value).find((key) => !Object.hasOwn(properties, key))
    if (strange !== undefined) return { path: `${path}/${strange}`, message: 'is not a known property' }
    const wrong = Object.keys(properties).find(
      (key) => Object.hasOwn(value, key) && !fits(properties[key] ?? {}, value[key]),
    )
    if (wrong !== undefined) return firstFault(properties[wrong] ?? {}, value[wrong], `${path}/${wrong}`)
  }
  // typebox's own words come from a walk over all of the value, so only where the schema or the value has no parts
  const plain = !isObject(value) || !['items', 'properties', 'patternProperties', 'anyOf'].some((key) => key in schema)
  const message = plain ? compiled.get(schema)?.Errors(value)[0]?.message : undefined
  return { path, message: message ?? 'does not fit its schema' }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !(value instanceof Uint8Array)
}

function firstOf<T, R>(list: readonly T[], look: (one: T, at: number) => R | undefined): R | undefined {
  for (const [at, one] of list.entries()) {
    const seen = look(one, at)
    if (seen !== undefined) return seen
  }
  return undefined
}
