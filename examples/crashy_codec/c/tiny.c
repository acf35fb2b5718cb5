#include "tiny.h"

#include <stdlib.h>
#include <string.h>

enum { OK, NOT_TINY, CUT_OFF, TOO_MANY_PIXELS, TOO_FEW_PIXELS, UNKNOWN_CHUNK, NO_MEMORY };

enum { HEADER = 8, CHUNK_HEADER = 3 };

const char *tiny_message(int status)
{
    switch (status) {
    case OK: return "ok";
    case NOT_TINY: return "not a TINY file";
    case CUT_OFF: return "the file is cut off";
    case TOO_MANY_PIXELS: return "more pixels than the frame has";
    case TOO_FEW_PIXELS: return "fewer pixels than the frame has";
    case UNKNOWN_CHUNK: return "unknown chunk";
    case NO_MEMORY: return "no memory";
    default: return "unknown status";
    }
}

static uint16_t read_u16(const uint8_t *data)
{
    return (uint16_t)(data[0] | data[1] << 8);
}

static int unpack(const uint8_t *runs, size_t size, const uint8_t *palette, uint8_t *pixels, size_t num_pixels, size_t *filled)
{
    for (size_t i = 0; i + 1 < size; i += 2) {
        size_t count = runs[i];
        /* BUG: without a 'P' before it the palette is NULL, and of an index beyond its end nobody knows. */
        uint8_t grey = palette[runs[i + 1]];
        if (count > num_pixels - *filled)
            return TOO_MANY_PIXELS;
        memset(pixels + *filled, grey, count);
        *filled += count;
    }
    return OK;
}

struct shown {
    struct shown *before;
    uint8_t pixels[];
};

/* Keeps every frame that is shown, as a player would that can go back. */
static int show(struct tiny_picture *picture, size_t num_pixels, uint32_t num_times)
{
    struct shown *last = NULL;
    int status = OK;
    /* BUG: "for ever" is taken at its word. */
    for (uint32_t i = 0; num_times == 0 || i < num_times; i++) {
        struct shown *next = malloc(sizeof *next + num_pixels);
        if (next == NULL) {
            status = NO_MEMORY;
            break;
        }
        next->before = last;
        memcpy(next->pixels, picture->pixels, num_pixels);
        last = next;
        picture->num_shown++;
    }
    while (last != NULL) {
        struct shown *before = last->before;
        free(last);
        last = before;
    }
    return status;
}

static int decode_chunks(const uint8_t *data, size_t size, struct tiny_picture *picture, size_t num_pixels)
{
    const uint8_t *palette = NULL;
    size_t filled = 0;
    size_t at = HEADER;

    while (size - at >= CHUNK_HEADER) {
        uint8_t tag = data[at];
        size_t length = read_u16(data + at + 1);
        const uint8_t *content = data + at + CHUNK_HEADER;
        int status = OK;

        if (length > size - at)
            return CUT_OFF;
        switch (tag) {
        case 'P':
            palette = content;
            break;
        case 'R':
            if (length < CHUNK_HEADER)
                return CUT_OFF;
            status = unpack(content, length - CHUNK_HEADER, palette, picture->pixels, num_pixels, &filled);
            break;
        case 'L':
            if (length < CHUNK_HEADER + 2)
                return CUT_OFF;
            status = show(picture, num_pixels, read_u16(content));
            break;
        case 'C':
            break;
        case 'E':
            return filled == num_pixels ? OK : TOO_FEW_PIXELS;
        default:
            return UNKNOWN_CHUNK;
        }
        if (status != OK)
            return status;
        /* BUG: a comment or a palette of length 0 leads back to itself. */
        at += length;
    }
    return CUT_OFF;
}

int tiny_decode(const uint8_t *data, size_t size, struct tiny_picture *picture)
{
    size_t num_pixels;
    int status;

    memset(picture, 0, sizeof *picture);
    if (size < HEADER || memcmp(data, "TINY", 4) != 0)
        return NOT_TINY;
    picture->width = read_u16(data + 4);
    picture->height = read_u16(data + 6);
    num_pixels = (size_t)picture->width * picture->height;
    picture->pixels = calloc(num_pixels + 1, 1);
    if (picture->pixels == NULL)
        return NO_MEMORY;
    status = decode_chunks(data, size, picture, num_pixels);
    if (status != OK) {
        tiny_free(picture->pixels);
        picture->pixels = NULL;
    }
    return status;
}

void tiny_free(uint8_t *pixels)
{
    free(pixels);
}
