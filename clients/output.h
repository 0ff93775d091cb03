/*
 * What slabctl prints: text that strangers chose, JSON, and tables whose cells
 * come from JSON objects.
 *
 * A terminal gets sizes and times for people, bars, and lines cut to its width;
 * anything else (a pipe, a file) gets every figure exactly and in full.
 *
 * Invariant: a byte sequence that came from a document reaches the stream only
 * through output_text() or output_json(), which let printable characters pass
 * and nothing that moves a cursor, rings or reverses the direction of writing.
 *
 * These functions end the program with status 1 when memory runs out. One
 * thread at a time.
 */
#ifndef SLABD_CLIENTS_OUTPUT_H
#define SLABD_CLIENTS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct cJSON;

struct output {
	FILE *to;
	bool terminal; /* for people: rounded, cut to width, with bars */
	bool colour;   /* escape sequences for colours are welcome */
	bool utf8;     /* characters beyond ASCII can be shown */
	bool titles;   /* of columns, and lines that sum up */
	bool verbose;  /* every single thing, not only sums */
	size_t width;  /* of the terminal, in columns */
};

enum output_kind {
	OUTPUT_TEXT,	/* a string; may be cut on a terminal */
	OUTPUT_ID,	/* an integer that names something */
	OUTPUT_COUNT,	/* how many */
	OUTPUT_LIMIT,	/* how many at most; 0 is none and shown as "-" */
	OUTPUT_SIZE,	/* bytes */
	OUTPUT_SECONDS, /* a duration */
	OUTPUT_PART,	/* "3/64": key of total */
	OUTPUT_TAKEN,	/* the share of total that is not key, as a bar */
};

struct output_column {
	const char *title;
	const char *key;   /* of the JSON object that makes a row */
	const char *total; /* a second key, for PART and TAKEN */
	enum output_kind kind;
};

struct output_table;

/*
 * Fills *out for a stream: whether it is a terminal, its width (80 when it
 * does not say), what the locale can show, and whether the user wants colours
 * (NO_COLOR, TERM).
 */
void output_init(struct output *out, FILE *to);

/*
 * Writes text with everything unprintable as \xNN, and \ as \x5c so that the
 * two cannot be confused. With `lines`, newlines and tabs stay. Returns the
 * columns it takes on a terminal.
 */
size_t output_text(const struct output *out, const char *text, bool lines);

/*
 * Writes a JSON text, which must be valid, indented by two spaces a level and
 * with a newline at the end. Numbers and the order of keys stay as they are;
 * on a terminal unprintable characters in strings become \uNNNN.
 */
void output_json(const struct output *out, const char *json);

/* A duration as a table would show it. */
void output_seconds(const struct output *out, double seconds);

/* A table of no rows yet; columns must outlive it. */
struct output_table *output_table_new(
    const struct output *out, const struct output_column *columns, size_t n);

/*
 * Adds a row: each column's key is looked up in `row` and then in `outer`,
 * which may be NULL. What is missing, null or of the wrong type shows as "-".
 */
void output_table_add(struct output_table *table, const struct cJSON *row,
    const struct cJSON *outer);

/* Writes the table and frees it. */
void output_table_end(struct output_table *table);

#endif
