/**
 * The place that a right is bound to: the kind of an origin and the canonical URL of its endpoint, as `registry URL/v2/REPOSITORY/blobs`,
 * `url URL`, or `put`. src/rights/place.ts makes it.
 */
export type Place = string & { readonly __place: true }
