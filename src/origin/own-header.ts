/** Request headers that nobody gives us for an origin: they say what the client itself does. */
const OWN =
  /^(host|connection|content-length|transfer-encoding|te|trailer|upgrade|keep-alive|expect|range|if-range|if-match|if-none-match|if-modified-since|if-unmodified-since|proxy-.*)$/

/** `name` in lower case. */
export function isOwnHeader(name: string): boolean {
  return OWN.test(name)
}
