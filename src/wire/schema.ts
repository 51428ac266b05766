/** Checks messages against their schemas, and schema pieces that plain JSON Schema lacks: bytes and bounded whole numbers. */
import { type Static, type TInteger, type TRefine, type TSchema, type TUnsafe, Type } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { DarnerError } from '../base/errors.ts'

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

const compiled = new WeakMap<TSchema, Validator>()

/** The value as its schema's type. Throws PROTOCOL_VIOLATION that names the message (`what`) and the path inside it. */
export function check<T extends TSchema>(schema: T, value: unknown, what: string): Static<T> {
  let validator = compiled.get(schema)
  if (validator === undefined) {
    validator = Compile(schema) as unknown as Validator
    compiled.set(schema, validator)
  }
  if (validator.Check(value)) return value as Static<T>
  const errors = validator.Errors(value)
  const error = errors.find((one) => one.instancePath !== '') ?? errors[0]
  const path = error === undefined || error.instancePath === '' ? '' : ` at ${error.instancePath.slice(0, 200)}`
  throw new DarnerError(
    'PROTOCOL_VIOLATION',
    `${what}${path}: ${error?.message.slice(0, 200) ?? 'does not fit its schema'}`,
  )
}
