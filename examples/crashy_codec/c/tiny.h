/* A decoder for TINY, a toy format for small grey animations.
 *
 *   file:   "TINY", width and height (u16 each), chunks
 *   chunk:  tag (u8), length of the whole chunk (u16), content
 *     'P'   palette: the greys that runs refer to
 *     'R'   runs: pairs of a count and an index into the palette; a frame is as many as fill width * height
 *     'L'   loop: how often the frame is shown (u16); 0 is for ever
 *     'C'   comment
 *     'E'   end
 *
 * Numbers are little-endian. The decoder trusts its input in three places; each is marked BUG. */

#ifndef TINY_H
#define TINY_H

#include <stddef.h>
#include <stdint.h>

struct tiny_picture {
    uint16_t width, height;
    uint32_t num_shown;
    uint8_t *pixels; /* width * height of them, to be given to tiny_free; NULL after a failure */
};

/* 0, or a number for tiny_message. */
int tiny_decode(const uint8_t *data, size_t size, struct tiny_picture *picture);
const char *tiny_message(int status);
void tiny_free(uint8_t *pixels);

#endif
