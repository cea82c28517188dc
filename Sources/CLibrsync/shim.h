#include <stdio.h>
#include <stdint.h>
#include <sys/types.h>
#include <librsync.h>
