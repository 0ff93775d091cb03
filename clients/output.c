/*
 * Terminal output; see output.h.
 *
 * A table keeps every cell as finished text with the columns it takes, since
 * bytes and columns differ as soon as there are colours or letters beyond
 * ASCII. Widths are settled when all rows are known.
 */
#include "config.h"

#include <langinfo.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <cjson/cJSON.h>

#include "output.h"

#define WIDTH_DEFAULT 80u
#define WIDTH_TEXT    6u  /* a column of text is not cut below this */
#define BAR_COLUMNS   10u /* without the percentage */
#define EXACT_MAX     9007199254740992.0 /* 2^53: a double counts no further */
#define NO_CHARACTER  0x110000u		 /* beyond the last one */
#define SECONDS_MAX   1e15		 /* durations beyond are not split up */
#define COUNT_ROUND   1e7		 /* counts from here on are rounded */

struct cell {
	char *text;
	size_t columns;
};

struct output_table {
	const struct output *out;
	const struct output_column *columns;
	size_t ncolumns, ncells, cap;
	struct cell
	    *cells; /* row after row; the titles, if any, are the first */
};

static void *
must(void *memory)
{
	if (memory == NULL) {
		fputs("slabctl: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

static bool
env_is(const char *name, const char *value)
{
	const char *is = getenv(name);

	return is != NULL && strcmp(is, value) == 0;
}

void
output_init(struct output *out, FILE *to)
{
	const char *no_color = getenv("NO_COLOR");
	struct winsize size = {0};

	*out = (struct output){.to = to, .titles = true};
	out->terminal = isatty(fileno(to));
	out->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	out->colour = out->terminal && !env_is("TERM", "dumb") &&
		      (no_color == NULL || *no_color == '\0');
	out->width = WIDTH_DEFAULT;
	if (ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		out->width = size.ws_col;
}

/*
 * Bytes of the UTF-8 character at s, and the character itself; one byte and
 * NO_CHARACTER where there is none. The NUL at the end stops every sequence.
 */
static size_t
decode(const char *s, uint32_t *c)
{
	static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	const uint8_t *u = (const uint8_t *)s;
	size_t len = u[0] >> 5 == 0x6	 ? 2
		     : u[0] >> 4 == 0xe	 ? 3
		     : u[0] >> 3 == 0x1e ? 4
					 : 1;
	uint32_t value = len == 1 ? u[0] : u[0] & (0x7fu >> len);

	for (size_t i = 1; i < len; i++) {
		if (u[i] >> 6 != 0x2)
			goto bad;
		value = value << 6 | (u[i] & 0x3fu);
	}
	if ((len == 1 && value >= 0x80) || value < lowest[len] ||
	    value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
		goto bad;
	*c = value;
	return len;
bad:
	*c = NO_CHARACTER;
	return 1;
}

/* Columns the character takes; 0 when it must not reach a terminal as it is. */
static size_t
printable(const struct output *out, uint32_t c)
{
	int columns;

	if (c < 0x80)
		return c >= 0x20 && c != 0x7f;
	columns = out->utf8 && c != NO_CHARACTER ? wcwidth((wchar_t)c) : 0;
	return columns > 0 ? (size_t)columns : 0;
}

size_t
output_text(const struct output *out, const char *s, bool lines)
{
	size_t width = 0, len, columns;
	uint32_t c;

	for (; *s != '\0'; s += len) {
		len = decode(s, &c);
		columns = c == '\\' ? 0 : printable(out, c);
		if (columns > 0 || (lines && (c == '\n' || c == '\t'))) {
			fwrite(s, 1, len, out->to);
			width += columns;
			continue;
		}
		for (size_t i = 0; i < len; i++)
			fprintf(out->to, "\\x%02x", (uint8_t)s[i]);
		width += 4 * len;
	}
	return width;
}

/* Writes the JSON string that begins at s; returns what follows it. */
static const char *
json_string(const struct output *out, const char *s)
{
	bool escaped = true; /* the opening quote ends nothing */
	size_t len;
	uint32_t c;

	for (bool open = true; open && *s != '\0'; s += len) {
		len = decode(s, &c);
		open = escaped || c != '"';
		escaped = !escaped && c == '\\';
		if (!out->terminal || printable(out, c) > 0)
			fwrite(s, 1, len, out->to);
		else if (c == NO_CHARACTER)
			fputs("\\ufffd", out->to);
		else if (c < 0x10000)
			fprintf(out->to, "\\u%04x", c);
		else
			fprintf(out->to, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10),
			    0xdc00 + (c & 0x3ff));
	}
	return s;
}

static void
json_newline(const struct output *out, size_t depth)
{
	fprintf(out->to, "\n%*s", (int)(2 * depth), "");
}

void
output_json(const struct output *out, const char *s)
{
	size_t depth = 0;
	char last = '\0'; /* the last character that was no white space */

	while (*(s += strspn(s, " \t\r\n")) != '\0') {
		bool opened = last == '{' || last == '[';
		bool closes = *s == '}' || *s == ']';

		if (closes && depth > 0)
			depth--;
		if (closes ? !opened : opened || last == ',')
			json_newline(out, depth);
		last = *s;
		if (*s == '"') {
			s = json_string(out, s);
			continue;
		}
		depth += *s == '{' || *s == '[';
		fputc(*s, out->to);
		if (*s++ == ':')
			fputc(' ', out->to);
	}
	fputc('\n', out->to);
}

/* "1.5 MiB", "12.3M": at most four figures and the unit. */
static void
put_rounded(FILE *to, double value, double step, const char *const *units)
{
	/* What would be printed as a whole step belongs to the next unit. */
	while (value >= step - 0.5 && units[1] != NULL) {
		value /= step;
		units++;
	}
	fprintf(to, "%.*f%s", value < 99.95 && value != floor(value), value,
	    *units);
}

static void
put_count(const struct output *out, double value)
{
	static const char *const units[] = {"", "k", "M", "G", "T", "P", NULL};

	if (out->terminal && value >= COUNT_ROUND)
		put_rounded(out->to, value, 1000, units);
	else
		fprintf(
		    out->to, "%s%.0f", value >= EXACT_MAX ? "~" : "", value);
}

static void
put_size(const struct output *out, double value)
{
	static const char *const units[] = {
	    " B", " KiB", " MiB", " GiB", " TiB", " PiB", NULL};

	if (out->terminal)
		put_rounded(out->to, value, 1024, units);
	else
		fprintf(out->to, "%.0f", value);
}

void
output_seconds(const struct output *out, double seconds)
{
	static const struct {
		unsigned seconds;
		char unit, rest;
	} scale[] = {{86400, 'd', 'h'}, {3600, 'h', 'm'}, {60, 'm', 's'}};
	uint64_t whole;

	if (!out->terminal || seconds >= SECONDS_MAX) {
		fprintf(out->to, "%.15g", seconds);
		return;
	}
	whole = (uint64_t)seconds;
	for (size_t i = 0; i < sizeof(scale) / sizeof(scale[0]); i++) {
		unsigned unit = scale[i].seconds;
		unsigned part = unit == 86400 ? 3600 : unit / 60;

		if (whole < unit)
			continue;
		fprintf(out->to, "%ju%c%02u%c", (uintmax_t)(whole / unit),
		    scale[i].unit, (unsigned)(whole % unit / part),
		    scale[i].rest);
		return;
	}
	/* Nothing behind the point says nothing. */
	fprintf(
	    out->to, "%.*fs", fabs(seconds - rint(seconds)) >= 0.05, seconds);
}

/* Draws how much is taken, 0..1; returns the columns it takes. */
static size_t
put_taken(const struct output *out, double taken)
{
	unsigned full = (unsigned)(taken * BAR_COLUMNS + 0.5);
	const char *colour = taken < 0.75 ? "32" : taken < 0.9 ? "33" : "31";
	/* Only what is really full may say so. */
	unsigned percent =
	    taken < 1 && taken > 0.99 ? 99 : (unsigned)(taken * 100 + 0.5);

	if (!out->terminal)
		return (size_t)fprintf(out->to, "%u%%", percent);
	if (out->colour)
		fprintf(out->to, "\033[%sm", colour);
	for (unsigned i = 0; i < BAR_COLUMNS; i++)
		fputs(out->utf8	 ? i < full ? "█" : "░"
		      : i < full ? "#"
				 : ".",
		    out->to);
	if (out->colour)
		fputs("\033[0m", out->to);
	return BAR_COLUMNS + (size_t)fprintf(out->to, " %3u%%", percent);
}

static const cJSON *
field(const cJSON *row, const cJSON *outer, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, key);

	return item != NULL ? item
			    : cJSON_GetObjectItemCaseSensitive(outer, key);
}

/* False unless the item is a number that can be counted. */
static bool
number(const cJSON *item, double *value)
{
	*value = cJSON_IsNumber(item) ? item->valuedouble : -1;
	return *value >= 0 && *value < 0x1p64;
}

/* Writes a cell of numbers; false, and nothing, when they are not there. */
static bool
put_numbers(const struct output *out, enum output_kind kind, const cJSON *item,
    const cJSON *of, size_t *width)
{
	double value, total = 0;

	if (!number(item, &value) || (of != NULL && !number(of, &total)))
		return false;
	switch (kind) {
	case OUTPUT_TEXT:
		return false;
	case OUTPUT_ID:
		fprintf(out->to, "%.0f", value);
		break;
	case OUTPUT_LIMIT:
		if (value == 0)
			return false;
		/* FALLTHROUGH */
	case OUTPUT_COUNT:
		put_count(out, value);
		break;
	case OUTPUT_SIZE:
		put_size(out, value);
		break;
	case OUTPUT_SECONDS:
		output_seconds(out, value);
		break;
	case OUTPUT_PART:
		fprintf(out->to, "%.0f/%.0f", value, total);
		break;
	case OUTPUT_TAKEN:
		if (value > total)
			return false;
		*width = put_taken(out, total > 0 ? 1 - value / total : 0);
		break;
	}
	return true;
}

static struct cell
cell_make(const struct output *out, const struct output_column *column,
    const cJSON *row, const cJSON *outer)
{
	const cJSON *item = field(row, outer, column->key);
	const cJSON *of =
	    column->total != NULL ? field(row, outer, column->total) : NULL;
	struct output memory = *out;
	struct cell cell = {0};
	size_t bytes;

	memory.to = must(open_memstream(&cell.text, &bytes));
	if (cJSON_IsString(item) && item->valuestring[0] != '\0')
		cell.columns = output_text(&memory, item->valuestring, false);
	else if (!put_numbers(&memory, column->kind, item, of, &cell.columns))
		fputc('-', memory.to);
	if (fclose(memory.to) != 0)
		must(NULL);
	/* Where nothing was counted, a byte is a column. */
	if (cell.columns == 0)
		cell.columns = bytes;
	return cell;
}

/* Room for one more row. */
static struct cell *
row_new(struct output_table *table)
{
	size_t n = table->ncolumns;

	if (table->ncells + n > table->cap) {
		table->cap = 2 * table->cap + 16 * n;
		table->cells = must(reallocarray(
		    table->cells, table->cap, sizeof(table->cells[0])));
	}
	table->ncells += n;
	return table->cells + table->ncells - n;
}

struct output_table *
output_table_new(
    const struct output *out, const struct output_column *columns, size_t n)
{
	struct output_table *table = must(calloc(1, sizeof(*table)));
	struct cell *cells;

	table->out = out;
	table->columns = columns;
	table->ncolumns = n;
	if (!out->titles)
		return table;
	cells = row_new(table);
	for (size_t i = 0; i < n; i++) {
		cells[i].text = must(strdup(columns[i].title));
		cells[i].columns = strlen(cells[i].text);
	}
	return table;
}

void
output_table_add(
    struct output_table *table, const cJSON *row, const cJSON *outer)
{
	struct cell *cells = row_new(table);

	for (size_t i = 0; i < table->ncolumns; i++)
		cells[i] =
		    cell_make(table->out, &table->columns[i], row, outer);
}

/* The widths that hold every cell, and on a terminal fit its lines. */
static void
settle(const struct output_table *table, size_t *width)
{
	size_t n = table->ncolumns, sum = 2 * (n - 1), widest;

	for (size_t i = 0; i < table->ncells; i++)
		if (table->cells[i].columns > width[i % n])
			width[i % n] = table->cells[i].columns;
	for (size_t i = 0; i < n; i++)
		sum += width[i];
	for (; table->out->terminal && sum > table->out->width; sum--) {
		widest = n;
		for (size_t i = 0; i < n; i++)
			if (table->columns[i].kind == OUTPUT_TEXT &&
			    width[i] > WIDTH_TEXT &&
			    (widest == n || width[i] > width[widest]))
				widest = i;
		if (widest == n)
			return;
		width[widest]--;
	}
}

/* Writes as much of a text as fits and a mark that there was more. */
static size_t
put_cut(const struct output *out, const char *text, size_t width)
{
	size_t used = 0, columns;
	uint32_t c;

	for (size_t len; *text != '\0'; text += len) {
		len = decode(text, &c);
		columns = printable(out, c);
		if (used + columns > width - 1)
			break;
		fwrite(text, 1, len, out->to);
		used += columns;
	}
	fputs(out->utf8 ? "…" : "~", out->to);
	return used + 1;
}

static bool
left_aligned(enum output_kind kind)
{
	return kind == OUTPUT_TEXT || kind == OUTPUT_TAKEN;
}

static void
put_line(const struct output_table *table, const struct cell *cells,
    const size_t *width)
{
	FILE *to = table->out->to;

	for (size_t i = 0; i < table->ncolumns; i++) {
		bool last = i + 1 == table->ncolumns;
		bool left = left_aligned(table->columns[i].kind);
		size_t used = cells[i].columns;

		if (!left && used < width[i])
			fprintf(to, "%*s", (int)(width[i] - used), "");
		if (used > width[i])
			used = put_cut(table->out, cells[i].text, width[i]);
		else
			fputs(cells[i].text, to);
		if (left && used < width[i] && !last)
			fprintf(to, "%*s", (int)(width[i] - used), "");
		fputs(last ? "\n" : "  ", to);
	}
}

void
output_table_end(struct output_table *table)
{
	size_t *width = must(calloc(table->ncolumns, sizeof(*width)));

	settle(table, width);
	for (size_t i = 0; i < table->ncells; i += table->ncolumns) {
		bool bold = i == 0 && table->out->titles && table->out->colour;

		fputs(bold ? "\033[1m" : "", table->out->to);
		put_line(table, table->cells + i, width);
		fputs(bold ? "\033[0m" : "", table->out->to);
	}
	for (size_t i = 0; i < table->ncells; i++)
		free(table->cells[i].text);
	free(table->cells);
	free(width);
	free(table);
}
