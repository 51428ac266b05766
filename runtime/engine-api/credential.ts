/** The credential that docker's clients send along. */
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Credential } from '../../src/core/task/origin.ts'
import { StatusError } from './errors.ts'

const Auth = Type.Object({
  username: Type.Optional(Type.String()),
  password: Type.Optional(Type.String()),
  identitytoken: Type.Optional(Type.String()),
  registrytoken: Type.Optional(Type.String()),
})

/** `X-Registry-Auth`: base64url of JSON. Throws 400. */
export function credentialOf(header: string | string[] | undefined): Credential | undefined {
  if (typeof header !== 'string' || header === '') return undefined
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(header, 'base64url').toString())
  } catch {
    throw new StatusError(400, 'invalid X-Registry-Auth header')
  }
  if (!Value.Check(Auth, json)) throw new StatusError(400, 'invalid X-Registry-Auth header')
  if (json.identitytoken) return { kind: 'refresh', token: json.identitytoken }
  if (json.registrytoken) return { kind: 'header', value: `Bearer ${json.registrytoken}` }
  if (!json.username) return undefined
  return { kind: 'basic', username: json.username, password: json.password ?? '' }
}
