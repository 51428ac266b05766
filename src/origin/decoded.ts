/** Percent-encoded text as it is meant; text that is none, such as `100%`, stays as it is. */
export function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text // URIError
  }
}
