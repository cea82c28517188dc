#include <stddef.h>
#include <stdint.h>

/// libFuzzer's loop (libclang_rt.fuzzer_no_main): calls `one` with input after input, and ends the process.
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one)(const uint8_t *bytes, size_t count));
