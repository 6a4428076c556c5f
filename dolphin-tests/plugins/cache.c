/* A data cache for a machine that has none: write-back, of endless size, blind to DMA, over the cached view of MEM2.
 *
 * It keeps for each line whether the CPU holds it and whether it is modified, and what the CPU would see in it. What happens
 * to lines goes to QEMU's log, where it meets the DMA that QEMU traces; the harness (src/cache.rs) judges the two together.
 * Lines of the log are "cache EVENT BUS-ADDRESS LINES PC", hexadecimal; neighbours with the same event are one:
 *
 *   fill        a line was loaded that was not held
 *   modify      a line was stored to that was not modified
 *   clean, flush, invalidate   the operation (dcbst, dcbf, dcbi), whatever the line was
 *   stale       a line was used that is held and differs from memory: somebody else has written memory
 *   overwrite   a modified line was written back over something that somebody else has written
 *   uncached    a modified line was used through the uncached view
 *
 * Nothing is evicted and nothing fetched ahead: instead the harness forbids what would go wrong if that happened.
 */
#include "qemu.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

EXPORT int qemu_plugin_version = 4;

#define LINE 32u
#define CACHED 0x90000000u
#define UNCACHED 0xD0000000u
#define BYTES (64u << 20)
#define BUS 0x10000000u

enum { ABSENT, HELD, MODIFIED };

static uint8_t state[BYTES / LINE];
/* MEM2 as it is, and as the CPU sees the lines that it holds. */
static const uint8_t *memory;
static uint8_t *seen;

/* The event that is not in the log yet, because the next line may belong to it. */
static struct {
	const char *event;
	uint32_t first, lines, pc;
} pending;

static void write_pending(void)
{
	char text[96];

	if (!pending.event)
		return;
	snprintf(text, sizeof text, "cache %s %08x %x %08x\n", pending.event, BUS + pending.first * LINE, pending.lines,
		 pending.pc);
	qemu_plugin_outs(text);
	pending.event = NULL;
}

static void say(const char *event, uint32_t line, uint32_t pc)
{
	if (pending.event == event && line == pending.first + pending.lines) {
		pending.lines++;
		return;
	}
	/* The same line over and over, as at the end of one loop and the start of the next. */
	if (pending.event == event && line - pending.first < pending.lines)
		return;
	write_pending();
	pending.event = event;
	pending.first = line;
	pending.lines = 1;
	pending.pc = pc;
}

static const char *const FILL = "fill", *const MODIFY = "modify", *const CLEAN = "clean", *const FLUSH = "flush",
			 *const INVALIDATE = "invalidate", *const STALE = "stale", *const OVERWRITE = "overwrite",
			 *const UNCACHED_USE = "uncached";

/* Finds the memory of the ivshmem device, the one that `-object memory-backend-memfd` made. */
static void find_memory(void)
{
	char path[32], link[128];

	for (int fd = 0; fd < 1024; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t length = readlink(path, link, sizeof link - 1);
		if (length < 0)
			continue;
		link[length] = 0;
		if (strncmp(link, "/memfd:memory-backend-memfd", 27))
			continue;
		void *mapped = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
		seen = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (mapped == MAP_FAILED || seen == MAP_FAILED)
			break;
		memory = mapped;
		return;
	}
	fprintf(stderr, "cache plugin: MEM2 is not to be found\n");
	exit(1);
}

static void use_line(uint32_t line, bool store, uint32_t from, uint32_t to, uint32_t pc)
{
	const uint8_t *real = memory + line * LINE;
	uint8_t *ours = seen + line * LINE;

	if (state[line] == ABSENT) {
		if (!store)
			say(FILL, line, pc);
		memcpy(ours, real, LINE);
		state[line] = HELD;
	} else if (store) {
		/* What was stored is in memory by now; the rest must be as the CPU knows it. */
		if (memcmp(ours, real, from) || memcmp(ours + to, real + to, LINE - to))
			say(STALE, line, pc);
		memcpy(ours, real, LINE);
	} else if (memcmp(ours, real, LINE)) {
		say(STALE, line, pc);
		memcpy(ours, real, LINE);
	}
	if (store && state[line] != MODIFIED) {
		state[line] = MODIFIED;
		say(MODIFY, line, pc);
	}
}

static void on_access(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	uint32_t pc = (uintptr_t)data, at = (uint32_t)address, length = 1u << qemu_plugin_mem_size_shift(info);
	bool store = qemu_plugin_mem_is_store(info);

	(void)vcpu;
	if (at - UNCACHED < BYTES) {
		uint32_t line = (at - UNCACHED) / LINE;
		if (state[line] == MODIFIED)
			say(UNCACHED_USE, line, pc);
		write_pending();
		return;
	}
	if (at - CACHED >= BYTES)
		return;
	if (!memory)
		find_memory();
	uint32_t first = at - CACHED, end = first + length < BYTES ? first + length : BYTES;
	for (uint32_t line = first / LINE; line * LINE < end; line++) {
		uint32_t start = line * LINE;
		uint32_t from = first > start ? first - start : 0, to = end - start < LINE ? end - start : LINE;
		use_line(line, store, from, to, pc);
	}
}

/* dcbst, dcbf and dcbi, which the emulator does as loads (and stores) of one byte. */
struct operation {
	uint32_t pc;
	const char *event;
};

static void on_operation(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	const struct operation *operation = data;
	uint32_t line = ((uint32_t)address - CACHED) / LINE;

	(void)vcpu;
	if (qemu_plugin_mem_is_store(info) || (uint32_t)address - CACHED >= BYTES)
		return;
	if (!memory)
		find_memory();
	if (operation->event != INVALIDATE && state[line] == MODIFIED
	    && memcmp(seen + line * LINE, memory + line * LINE, LINE))
		say(OVERWRITE, line, operation->pc);
	say(operation->event, line, operation->pc);
	if (operation->event != CLEAN)
		state[line] = ABSENT;
	else if (state[line] == MODIFIED)
		state[line] = HELD;
}

/* dcbz, which the emulator does behind the plugins' back: its address comes from the registers. */
struct zeroing {
	uint32_t pc, a, b;
};

static struct qemu_plugin_register *registers[32];

static void on_cpu(qemu_plugin_id_t id, unsigned vcpu)
{
	GArray *all = qemu_plugin_get_registers();
	qemu_plugin_reg_descriptor *each = (void *)all->data;

	(void)id;
	(void)vcpu;
	for (unsigned index = 0; index < all->len; index++) {
		int number, end = 0;
		if (each[index].name && sscanf(each[index].name, "r%2d%n", &number, &end) == 1 && number >= 0 && number < 32
		    && each[index].name[end] == 0)
			registers[number] = each[index].handle;
	}
}

static uint32_t general_register(uint32_t number)
{
	static GByteArray *bytes;

	if (!bytes)
		bytes = g_byte_array_new();
	g_byte_array_set_size(bytes, 0);
	if (!registers[number] || qemu_plugin_read_register(registers[number], bytes) < 4) {
		fprintf(stderr, "cache plugin: cannot read r%u\n", number);
		exit(1);
	}
	uint32_t value = 0;
	for (unsigned index = 0; index < bytes->len; index++)
		value = value << 8 | bytes->data[index];
	return value;
}

static void on_zeroing(unsigned vcpu, void *data)
{
	const struct zeroing *zeroing = data;
	uint32_t at = general_register(zeroing->b) + (zeroing->a ? general_register(zeroing->a) : 0);
	uint32_t line = (at - CACHED) / LINE;

	(void)vcpu;
	if (at - CACHED >= BYTES)
		return;
	if (!memory)
		find_memory();
	memset(seen + line * LINE, 0, LINE);
	if (state[line] != MODIFIED) {
		state[line] = MODIFIED;
		say(MODIFY, line, zeroing->pc);
	}
}

/* A barrier comes before a device is let loose: whatever the CPU did is in the log before what the device does. */
static void on_barrier(unsigned vcpu, void *data)
{
	(void)vcpu;
	(void)data;
	write_pending();
}

static void *remember(const void *value, size_t size)
{
	void *copy = malloc(size);
	if (!copy)
		abort();
	return memcpy(copy, value, size);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	for (size_t index = 0; index < qemu_plugin_tb_n_insns(tb); index++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, index);
		uint32_t pc = (uint32_t)qemu_plugin_insn_vaddr(insn);
		uint8_t bytes[4] = { 0 };
		qemu_plugin_insn_data(insn, bytes, sizeof bytes);
		uint32_t word = (uint32_t)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
		uint32_t extended = word >> 26 == 31 ? word >> 1 & 0x3ff : 0;
		struct operation operation = { pc, NULL };

		switch (extended) {
		case 54: /* dcbst */
			operation.event = CLEAN;
			break;
		case 86: /* dcbf */
			operation.event = FLUSH;
			break;
		case 470: /* dcbi */
			operation.event = INVALIDATE;
			break;
		case 246: /* dcbtst: a hint */
		case 278: /* dcbt: a hint */
		case 982: /* icbi: the instruction cache */
			continue;
		case 598: /* sync */
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_barrier, QEMU_PLUGIN_CB_NO_REGS, NULL);
			continue;
		case 1014: { /* dcbz */
			struct zeroing zeroing = { pc, word >> 16 & 31, word >> 11 & 31 };
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_zeroing, QEMU_PLUGIN_CB_R_REGS,
							       remember(&zeroing, sizeof zeroing));
			continue;
		}
		}
		if (operation.event)
			qemu_plugin_register_vcpu_mem_cb(insn, on_operation, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_R,
							 remember(&operation, sizeof operation));
		else
			qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)pc);
	}
}

static void on_exit_of_qemu(qemu_plugin_id_t id, void *data)
{
	(void)id;
	(void)data;
	write_pending();
	/* The harness demands it: a log without it was not written by a plugin that worked to the end. */
	qemu_plugin_outs("cache end\n");
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (!info->system_emulation || strcmp(info->target_name, "ppc")) {
		fprintf(stderr, "cache plugin: not for %s\n", info->target_name);
		return 1;
	}
	qemu_plugin_register_vcpu_init_cb(id, on_cpu);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, NULL);
	return 0;
}
