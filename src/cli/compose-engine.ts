/** Joins the engine to the peer: images are pulled through the ContentSource, layers unpacked as their pieces arrive. */
import type { FastifyInstance } from 'fastify'
import type { Log } from '../base/log.ts'
import type { Scope } from '../base/scope.ts'
import type { AgentSettings } from '../config/schema.ts'
import type { ContentSource } from '../contracts/content.ts'

export interface EngineJoin {
  readonly scope: Scope
  readonly log: Log
  readonly app: FastifyInstance
  readonly content: ContentSource
}

export async function composeEngine(_settings: AgentSettings, _parts: EngineJoin): Promise<void> {}
