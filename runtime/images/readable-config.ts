/** Image configurations are read whole before an image is stored: one that can't be read would break every list of images. */
import type { ImageConfig } from '../../src/oci/manifest.ts'
import { parseImageConfig } from '../../src/oci/manifest.ts'
import { readImageConfig } from '../spec/image-config.ts'

/** Reads the bytes of a configuration, its `config` object included; `layers` is their number in the manifest. Throws MANIFEST_INVALID. */
export function readableConfig(body: Uint8Array, layers: number): ImageConfig {
  const config = parseImageConfig(body, { layers })
  readImageConfig(config, 'configuration')
  return config
}
