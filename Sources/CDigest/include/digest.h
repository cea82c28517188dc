#ifndef MAILSYNC_DIGEST_H
#define MAILSYNC_DIGEST_H
#include <stddef.h>
#include <stdint.h>

typedef struct { uint64_t low, high; } ms_digest128;

/// XXH3-128 of `length` bytes, seed 0.
ms_digest128 ms_xxh128(const void *bytes, size_t length);
/// XXH3-64 of `length` bytes, seed 0.
uint64_t ms_xxh64(const void *bytes, size_t length);
/// XXH3-128 of every `page` bytes (the last one may be short) into `out`; returns how many pages there were.
size_t ms_xxh128_pages(const void *bytes, size_t length, size_t page, ms_digest128 *out);
#endif
