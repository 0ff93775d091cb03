// Boost.Interprocess: memory of any size from a managed_shared_memory segment,
// which two processes share.
#include "config.h"

#include "bench.h"
#include "peer.h"

#ifdef HAVE_BOOST_INTERPROCESS
#include <string>
#include <unistd.h>

#include <boost/interprocess/managed_shared_memory.hpp>

namespace ipc = boost::interprocess;

static ipc::managed_shared_memory *segment;
static size_t slot_size;

static inline void *
slot_alloc()
{
	return segment->allocate(slot_size);
}

static inline void
slot_free(void *slot)
{
	segment->deallocate(slot);
}

static inline uint64_t
slot_give(void *slot)
{
	return uint64_t(segment->get_handle_from_address(slot));
}

static inline void *
slot_take(uint64_t handle)
{
	return segment->get_address_from_handle(
	    ipc::managed_shared_memory::handle_t(handle));
}

#include "loops.h"

// The sides inherit the mapping, so the name can go at once.
static const char *
prepare(const struct setting *s)
{
	std::string name = "slabd-bench-" + std::to_string(getpid());

	slot_size = s->slot_size;
	segment = new ipc::managed_shared_memory(ipc::create_only, name.c_str(),
	    s->slots * (slot_size + 64) + 65536);
	ipc::shared_memory_object::remove(name.c_str());
	return nullptr;
}

static const char *
enter(const struct setting *s, unsigned side)
{
	loops_enter(s, side);
	return nullptr;
}

static void
release()
{
	delete segment;
}

const struct peer peer_boost = {
    "Boost.Interprocess", prepare, enter, loops_run, release};

#else

static const char *
prepare(const struct setting *)
{
	return "not installed";
}

const struct peer peer_boost = {
    "Boost.Interprocess", prepare, nullptr, nullptr, nullptr};

#endif
