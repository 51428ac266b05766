/** Members that clients leave out or send as null: the shapes of docker's bodies are full of them. */
import { Type } from 'typebox'

export const OptText = () => Type.Optional(Type.Union([Type.String({ maxLength: 4096 }), Type.Null()]))
export const OptTexts = () =>
  Type.Optional(Type.Union([Type.Array(Type.String({ maxLength: 8192 }), { maxItems: 1000 }), Type.Null()]))
export const OptNumber = () => Type.Optional(Type.Union([Type.Number(), Type.Null()]))
export const OptFlag = () => Type.Optional(Type.Union([Type.Boolean(), Type.Null()]))
export const OptMap = () => Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()]))
