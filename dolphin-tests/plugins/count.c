/* Counts how often each instruction of a range runs, between two marks.
 *
 * Arguments: base=ADDRESS,words=N (the range), begin=ADDRESS,end=ADDRESS (two functions, hexadecimal), out=FILE. Each time that
 * `end` is called after `begin`, the file gets a line "window" and a line "ADDRESS COUNT" (hexadecimal, decimal) for each
 * instruction that ran in between. QEMU's log gets "count begin" and "count end", so that its trace can be cut likewise. */
#include "qemu.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

EXPORT int qemu_plugin_version = 4;

static uint32_t base, words, begin, end;
static struct qemu_plugin_scoreboard *score;
static FILE *out;
static bool counting;

static void on_begin(unsigned vcpu, void *data)
{
	(void)data;
	memset(qemu_plugin_scoreboard_find(score, vcpu), 0, words * sizeof(uint64_t));
	counting = true;
	qemu_plugin_outs("count begin\n");
}

static void on_end(unsigned vcpu, void *data)
{
	const uint64_t *counts = qemu_plugin_scoreboard_find(score, vcpu);

	(void)data;
	if (!counting)
		return;
	counting = false;
	qemu_plugin_outs("count end\n");
	fprintf(out, "window\n");
	for (uint32_t index = 0; index < words; index++)
		if (counts[index])
			fprintf(out, "%08x %" PRIu64 "\n", base + 4 * index, counts[index]);
	fflush(out);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	for (size_t index = 0; index < qemu_plugin_tb_n_insns(tb); index++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, index);
		uint32_t pc = (uint32_t)qemu_plugin_insn_vaddr(insn), word = (pc - base) / 4;

		/* Before the count, so that the mark itself is not counted at the begin. */
		if (pc == begin)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_begin, QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (pc == end)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_end, QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (pc >= base && word < words) {
			qemu_plugin_u64 entry = { score, word * sizeof(uint64_t) };
			qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64, entry, 1);
		}
	}
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	for (int index = 0; index < argc; index++) {
		sscanf(argv[index], "base=%" SCNx32, &base);
		sscanf(argv[index], "words=%" SCNu32, &words);
		sscanf(argv[index], "begin=%" SCNx32, &begin);
		sscanf(argv[index], "end=%" SCNx32, &end);
		if (!strncmp(argv[index], "out=", 4))
			out = fopen(argv[index] + 4, "w");
	}
	if (!base || !words || !begin || !end || !out) {
		fprintf(stderr, "count plugin: base, words, begin, end and out are needed\n");
		return 1;
	}
	score = qemu_plugin_scoreboard_new(words * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	return 0;
}
