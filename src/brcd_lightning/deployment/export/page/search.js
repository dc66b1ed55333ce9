// Exact Hamming search over all codes. Ties keep the order of the database.

const ONES = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll("0", "").length);

/** The k nearest of packed codes (n x query.length bytes), as [{position, distance}]. */
export function nearest(query, codes, k) {
  const width = query.length;
  const count = codes.length / width;
  const distances = new Uint16Array(count);
  const sizes = new Uint32Array(8 * width + 1);
  for (let position = 0, byte = 0; position < count; position += 1) {
    let distance = 0;
    for (let i = 0; i < width; i += 1, byte += 1) distance += ONES[query[i] ^ codes[byte]];
    distances[position] = distance;
    sizes[distance] += 1;
  }
  // Counting sort: next[d] is the first position of distance d in the sorted order. A second pass places the hits.
  const wanted = Math.min(k, count);
  const next = new Uint32Array(sizes.length);
  for (let distance = 1; distance < sizes.length; distance += 1) {
    next[distance] = next[distance - 1] + sizes[distance - 1];
  }
  const hits = new Array(wanted);
  for (let position = 0; position < count; position += 1) {
    const distance = distances[position];
    if (next[distance] < wanted) {
      hits[next[distance]] = { position, distance };
      next[distance] += 1;
    }
  }
  return hits;
}
