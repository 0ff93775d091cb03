/*
 * JSON with comments, on top of cJSON; see jsonc.h.
 *
 * Order matters: check_bytes() comes first, so that everything after it reads
 * well-formed text; make_plain() ends every string, comment and number before
 * cJSON sees them; whatever cJSON refuses is then about structure alone.
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jsonc.h"

#define EXCERPT 60u /* bytes shown of a long line on each side of the error */
#define DIGITS	18u /* any number of so many fits 64 bits */

/* Where make_plain() stands. */
struct scan {
	struct jsonc *j;
	size_t at;
	size_t comma;  /* where the last comma is */
	bool trailing; /* it stands behind a value */
	char last;     /* first byte of the token before, 0 at the start */
	unsigned depth;
	uint32_t objects; /* bit n: n levels up is an object, no array */
};
_Static_assert(JSONC_DEPTH_MAX <= 32, "a level has a bit");

/* Bytes of the UTF-8 character at s, of which left are there; 0: it is none. */
static size_t
utf8_len(const unsigned char *s, size_t left)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (n == 1)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* overlong, surrogate, beyond U+10FFFF */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	       (c >= 'A' && c <= 'Z') || (c != '\0' && strchr("+-._", c));
}

/* Does a character begin at c?  The others add nothing to a column. */
static bool
is_lead(char c)
{
	return (c & 0xc0) != 0x80;
}

/* The text from at to end, without what would disturb a terminal. */
static void
put_clean(FILE *f, const char *text, size_t at, size_t end)
{
	for (; at < end; at++) {
		const unsigned char *s = (const unsigned char *)text + at;
		size_t n = utf8_len(s, end - at);

		if (n < 2) {
			bool bad =
			    n == 0 || (*s < ' ' && *s != '\t') || *s == 0x7f;
			putc(bad ? '?' : *s, f);
			continue;
		}
		fwrite(s, 1, n, f);
		at += n - 1;
	}
}

/* The line around at, shortened to what fits a screen, and the caret below. */
static void
put_excerpt(FILE *f, const struct jsonc *j, size_t line, size_t at)
{
	const char *nl = memchr(j->text + at, '\n', j->len - at);
	size_t end = nl != NULL ? (size_t)(nl - j->text) : j->len;
	size_t from = line, to = end;

	if (at - line > EXCERPT)
		from = at - EXCERPT;
	if (end - at > EXCERPT)
		to = at + EXCERPT;
	while (from < at && !is_lead(j->text[from]))
		from++;
	while (to < end && !is_lead(j->text[to]))
		to++;
	if (to == end && to > at && j->text[to - 1] == '\r')
		to--;

	fputs(from > line ? "\n..." : "\n", f);
	put_clean(f, j->text, from, to);
	fputs(to < end && j->text[to] != '\r' ? "...\n" : "\n", f);
	fputs(from > line ? "   " : "", f);
	for (; from < at; from++)
		if (is_lead(j->text[from]))
			putc(j->text[from] == '\t' ? '\t' : ' ', f);
	putc('^', f);
}

__attribute__((format(printf, 3, 0))) static int
fail_at_v(struct jsonc *j, size_t at, const char *format, va_list args)
{
	size_t size, line = 0, lines = 1, column = 1;
	FILE *f;

	for (size_t i = 0; i < at; i++) {
		column += is_lead(j->text[i]);
		if (j->text[i] == '\n') {
			line = i + 1;
			lines++;
			column = 1;
		}
	}
	free(j->error);
	j->error = NULL;
	f = open_memstream(&j->error, &size);
	if (f == NULL)
		return -ENOMEM;
	fprintf(f, "%s:%zu:%zu: ", j->name, lines, column);
	vfprintf(f, format, args);
	put_excerpt(f, j, line, at);
	if (fclose(f) != 0) {
		free(j->error);
		j->error = NULL;
		return -ENOMEM;
	}
	return -EINVAL;
}

__attribute__((format(printf, 3, 4))) static int
fail_at(struct jsonc *j, size_t at, const char *format, ...)
{
	va_list args;
	int rc;

	va_start(args, format);
	rc = fail_at_v(j, at, format, args);
	va_end(args);
	return rc;
}

static int
check_bytes(struct jsonc *j)
{
	for (size_t at = 0, n; at < j->len; at += n) {
		unsigned char c = (unsigned char)j->text[at];

		n = utf8_len((const unsigned char *)j->text + at, j->len - at);
		if (n == 0)
			return fail_at(j, at, "this is not UTF-8");
		if ((c < ' ' && !is_space((char)c)) || c == 0x7f)
			return fail_at(j, at, "control character 0x%02x", c);
	}
	return 0;
}

/* Position after the string whose quote is at i; it does end. */
static size_t
string_end(const char *s, size_t i)
{
	while (s[++i] != '"')
		if (s[i] == '\\')
			i++;
	return i + 1;
}

/*
 * cJSON takes bad hexadecimal digits for zeros, and a zero for the end of the
 * string.
 */
static int
scan_escape(struct scan *s)
{
	const char *esc = s->j->plain + s->at;

	if (esc[1] == 'u' && strspn(esc + 2, "0123456789abcdefABCDEF") < 4)
		return fail_at(
		    s->j, s->at, "\\u takes four hexadecimal digits");
	if (strncmp(esc, "\\u0000", 6) == 0)
		return fail_at(s->j, s->at, "a string cannot contain NUL");
	s->at += 2;
	return 0;
}

static int
scan_string(struct scan *s)
{
	const char *plain = s->j->plain;
	size_t start = s->at++;

	while (plain[s->at] != '"') {
		char c = plain[s->at];

		if (c == '\0' || c == '\n' || c == '\r')
			return fail_at(s->j, start, "this string never ends");
		if (c == '\t')
			return fail_at(s->j, s->at, "tab inside a string");
		if (c != '\\')
			s->at++;
		else if (plain[s->at + 1] < ' ')
			return fail_at(s->j, start, "this string never ends");
		else if (scan_escape(s) != 0)
			return -EINVAL;
	}
	s->at++;
	return 0;
}

/* Overwrites n bytes, but leaves the line ends. */
static void
blank(struct scan *s, size_t n)
{
	for (; n > 0; n--, s->at++)
		if (s->j->plain[s->at] != '\n')
			s->j->plain[s->at] = ' ';
}

/* Skips the comment that begins here, if one does. */
static int
scan_comment(struct scan *s)
{
	const char *here = s->j->plain + s->at, *end;

	if (here[0] == '#' || (here[0] == '/' && here[1] == '/')) {
		blank(s, strcspn(here, "\n"));
		return 0;
	}
	if (here[0] != '/' || here[1] != '*')
		return fail_at(s->j, s->at, "unexpected '/'");
	end = strstr(here + 2, "*/");
	if (end == NULL)
		return fail_at(s->j, s->at, "this comment never ends");
	blank(s, (size_t)(end + 2 - here));
	return 0;
}

/* A number, true, false or null; cJSON would take 01, 1. and 1e999 as well. */
static int
scan_word(struct scan *s)
{
	const char *word = s->j->plain + s->at;
	size_t start = s->at, n = 0, sign = word[0] == '-', digits;

	while (is_word(word[n]))
		n++;
	s->at += n;
	if ((n == 4 && memcmp(word, "true", n) == 0) ||
	    (n == 5 && memcmp(word, "false", n) == 0) ||
	    (n == 4 && memcmp(word, "null", n) == 0))
		return 0;
	digits = strspn(word + sign, "0123456789");
	if (digits == 0)
		return fail_at(
		    s->j, start, "unknown word; strings stand in quotes");
	if (sign + digits != n)
		return fail_at(s->j, start,
		    "not a whole number; sizes with a unit stand in quotes");
	if (word[sign] == '0' && digits > 1)
		return fail_at(s->j, start, "a number begins with a zero");
	if (digits > DIGITS)
		return fail_at(s->j, start, "number too large");
	return 0;
}

/* Everything that is a single character. */
static int
scan_mark(struct scan *s)
{
	char c = s->j->plain[s->at];

	if (!strchr("{}[],:", c))
		return fail_at(s->j, s->at, "unexpected here");
	if (c == '{' || c == '[') {
		if (s->depth++ == JSONC_DEPTH_MAX)
			return fail_at(s->j, s->at, "nested too deep");
		s->objects = s->objects << 1 | (c == '{');
	}
	if (c == '}' || c == ']') {
		s->depth -= s->depth > 0;
		s->objects >>= 1;
		if (s->last == ',' && s->trailing)
			s->j->plain[s->comma] = ' ';
	}
	if (c == ',') {
		s->comma = s->at;
		s->trailing = !strchr("[{,:", s->last);
	}
	s->at++;
	return 0;
}

static int
scan_token(struct scan *s)
{
	char c = s->j->plain[s->at];
	int rc;

	if (c == '#' || c == '/')
		return scan_comment(s);
	if ((s->last == '{' || s->last == ',') && (s->objects & 1) &&
	    c != '"' && c != '}')
		return fail_at(s->j, s->at, "expected a key in quotes");
	if (c == '"')
		rc = scan_string(s);
	else if (is_word(c))
		rc = scan_word(s);
	else
		rc = scan_mark(s);
	s->last = c;
	return rc;
}

static int
make_plain(struct jsonc *j)
{
	struct scan s = {.j = j};

	while (s.at < j->len) {
		int rc;

		if (is_space(j->plain[s.at])) {
			s.at++;
			continue;
		}
		rc = scan_token(&s);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* Says what cJSON did not like at a place: only structure is left to err in. */
static int
fail_syntax(struct jsonc *j, size_t at)
{
	size_t before = at;

	while (before > 0 && is_space(j->plain[before - 1]))
		before--;
	if (at >= j->len || strspn(j->plain + at, " \t\r\n") == j->len - at) {
		return fail_at(j, before > 0 ? before - 1 : 0,
		    "the file ends here, but its content does not");
	}
	if (before > 0 && !strchr("[{,:", j->plain[before - 1]) &&
	    (is_word(j->plain[at]) || strchr("\"[{", j->plain[at])))
		return fail_at(j, at, "no comma or colon before this");
	if (j->plain[at] == '\\')
		return fail_at(j, at, "unknown escape in a string");
	return fail_at(j, at, "unexpected here");
}

int
jsonc_open(struct jsonc *j, const char *name, const char *text, size_t len)
{
	const char *end;
	int rc;

	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3; /* a byte order mark */
		len -= 3;
	}
	*j = (struct jsonc){.name = name, .text = text, .len = len};
	rc = check_bytes(j);
	if (rc != 0)
		return rc;
	j->plain = malloc(len + 1);
	if (j->plain == NULL)
		return -ENOMEM;
	memcpy(j->plain, text, len);
	j->plain[len] = '\0';
	rc = make_plain(j);
	if (rc != 0)
		return rc;
	j->root = cJSON_ParseWithLengthOpts(j->plain, len + 1, &end, 1);
	if (j->root == NULL)
		return fail_syntax(j, (size_t)(end - j->plain));
	return 0;
}

void
jsonc_close(struct jsonc *j)
{
	cJSON_Delete(j->root);
	free(j->plain);
	j->root = NULL;
	j->plain = NULL;
}

/* Adds to *n the values that stand in the text before item. */
static bool
count_before(const cJSON *node, const cJSON *item, size_t *n)
{
	for (; node != NULL; node = node->next) {
		if (node == item)
			return true;
		++*n;
		if (count_before(node->child, item, n))
			return true;
	}
	return false;
}

/* Finds value number n, counted from 0, and the key that precedes it. */
static void
find_value(const char *s, size_t n, size_t *key, size_t *value)
{
	size_t at = 0, end;

	for (;; at = end) {
		at += strspn(s + at, " \t\r\n,:]}");
		end = at + 1;
		if (s[at] == '"')
			end = string_end(s, at);
		else
			while (is_word(s[at]) && is_word(s[end]))
				end++;
		if (s[at] == '"' && s[end + strspn(s + end, " \t\r\n")] == ':')
			*key = at;
		else if (s[at] == '\0' || n-- == 0)
			break;
	}
	*value = at;
}

int
jsonc_fail(struct jsonc *j, const cJSON *item, const char *format, ...)
{
	size_t n = 0, key, value;
	va_list args;
	int rc;

	count_before(j->root, item, &n);
	find_value(j->plain, n, &key, &value);
	va_start(args, format);
	rc = fail_at_v(j, value, format, args);
	va_end(args);
	return rc;
}

int
jsonc_fail_key(struct jsonc *j, const cJSON *item, const char *format, ...)
{
	size_t n = 0, key = 0, value;
	va_list args;
	int rc;

	count_before(j->root, item, &n);
	find_value(j->plain, n, &key, &value);
	va_start(args, format);
	rc = fail_at_v(j, key, format, args);
	va_end(args);
	return rc;
}
