/*
 * What one user may take of the daemon's time, while others are about, with what
 * is not its daily work.
 *
 * Whoever allocates slots and hands them on is served as fast as he asks.
 * Connections made and ended, pools attached and detached, documents, requests
 * and records that are refused: all that costs more than it tells, and has a
 * share of the time, with a reserve that fills up again. A user who has used
 * both is read later, so that the daemon sleeps in between, and is there at once
 * for the others. Who is alone may do as he likes.
 *
 * It is the time of the wall: a daemon that is kept from running has less to
 * give.
 */
#ifndef SLABD_DAEMON_SHARE_H
#define SLABD_DAEMON_SHARE_H

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct user;

/* When who has to wait is looked at again, in ms. */
#define SHARE_TURN_MS 1u

/* Whether it has to wait. NULL, whom nobody counts, never does. */
bool share_is_used(const struct daemon *, const struct user *);
/* The user asks for something: whether it may be served now. */
bool share_admits(const struct daemon *, struct user *);
/* It has used the time since then, in us of loop_now_us(); NULL is accepted. */
void share_charge(struct user *, uint64_t begun);
/* The same for a pool's turn: who owes nothing rings for nothing. */
void share_charge_turn(struct user *, uint64_t begun);
/* A record of its was refused. */
void share_charge_reject(struct user *);

#endif
