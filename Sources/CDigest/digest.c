// libxxhash is a header library: inlined here, the page loop stays in C and runs at memory speed.
#define XXH_INLINE_ALL
#include <xxhash.h>
#include "digest.h"

ms_digest128 ms_xxh128(const void *bytes, size_t length) {
    XXH128_hash_t hash = XXH3_128bits(bytes, length);
    return (ms_digest128){ hash.low64, hash.high64 };
}

uint64_t ms_xxh64(const void *bytes, size_t length) { return XXH3_64bits(bytes, length); }

size_t ms_xxh128_pages(const void *bytes, size_t length, size_t page, ms_digest128 *out) {
    size_t count = 0;
    for (size_t at = 0; at < length; at += page)
        out[count++] = ms_xxh128((const char *)bytes + at, length - at < page ? length - at : page);
    return count;
}
