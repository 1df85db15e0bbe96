"""Fixes for real kernels that only tests want: harmless ones and deadly ones."""

from kmend.model.fix import Fix

CMDLINE_PROBE = """\
#include <stdio.h>
#include <string.h>
int main(void)
{
    char line[4096] = { 0 };
    FILE *file = fopen("/proc/cmdline", "r");

    if (!file || !fgets(line, sizeof(line), file))
        return 2;
    return strstr(line, "kmend-was-here") ? 0 : 1;
}
"""

CMDLINE = """\
--- a/fs/proc/cmdline.c
+++ b/fs/proc/cmdline.c
@@ -6,6 +6,{lines} @@

 static int cmdline_proc_show(struct seq_file *m, void *v)
 {{
{added}
 \tseq_puts(m, saved_command_line);
 \tseq_putc(m, '\\n');
 \treturn 0;
"""

DUMMY_DIFF = """\
--- a/drivers/net/dummy.c
+++ b/drivers/net/dummy.c
@@ -84,6 +84,7 @@

 static int dummy_change_carrier(struct net_device *dev, bool new_carrier)
 {
+\tnetdev_info(dev, "kmend was here\\n");
 \tif (new_carrier)
 \t\tnetif_carrier_on(dev);
 \telse
"""


def make_fix(diff, probe=""):
    """A fix of nothing in particular."""
    return Fix(name="test", cves=(), title="A test", diff=diff, origin="this test", probe=probe)


def cmdline_diff(*added):
    """A diff that adds lines to the function behind /proc/cmdline."""
    return CMDLINE.format(lines=6 + len(added), added="\n".join(f"+\t{line}" for line in added))


GOOD_DIFF = cmdline_diff('seq_puts(m, "kmend-was-here ");')
"""Shows ``kmend-was-here`` in /proc/cmdline, which CMDLINE_PROBE takes for the fix."""

CALLBACKS = """
static int cmdline_pre_patch(struct klp_object *object)
{
	pr_info("kmend-test: pre_patch of %s\\n", object->name ?: "vmlinux");
	return 0;
}

static void cmdline_post_patch(struct klp_object *object)
{
	pr_info("kmend-test: post_patch\\n");
}

static void cmdline_pre_unpatch(struct klp_object *object)
{
	pr_info("kmend-test: pre_unpatch\\n");
}

static void cmdline_post_unpatch(struct klp_object *object)
{
	int *reads = klp_shadow_get(saved_command_line, CMDLINE_READS);

	pr_info("kmend-test: post_unpatch after %d\\n", reads ? *reads : 0);
	klp_shadow_free_all(CMDLINE_READS, NULL);
}

static const struct klp_callbacks cmdline_callbacks __used __section(".kmend.callbacks") = {
	.pre_patch = cmdline_pre_patch,
	.post_patch = cmdline_post_patch,
	.pre_unpatch = cmdline_pre_unpatch,
	.post_unpatch = cmdline_post_unpatch,
};
"""
SHADOW = """
#include <linux/livepatch.h>

#define CMDLINE_READS 0x6b6d0001

static int cmdline_first_read(void *obj, void *shadow_data, void *ctor_data)
{
	*(int *)shadow_data = 100;
	return 0;
}

static int cmdline_proc_show(struct seq_file *m, void *v)
{
	int *reads;

	reads = klp_shadow_get_or_alloc(saved_command_line, CMDLINE_READS, sizeof(*reads), GFP_KERNEL,
					cmdline_first_read, NULL);

	if (reads)
		seq_printf(m, "kmend-was-here %d ", ++*reads);
"""
CALLBACK_EDITS = (
    ("\nstatic int cmdline_proc_show(struct seq_file *m, void *v)\n{\n", SHADOW),
    ("\nstatic int __init proc_cmdline_init", f"{CALLBACKS}\nstatic int __init proc_cmdline_init"),
)
"""Edits of fs/proc/cmdline.c: reads are counted in a shadow variable from 100 on, and all callbacks tell of it."""

DUMMY_CALLBACKS = """#include <linux/livepatch.h>

static int dummy_pre_patch(struct klp_object *object)
{
	pr_info("kmend-test: pre_patch of %s\\n", object->name);
	return 0;
}

static void dummy_post_unpatch(struct klp_object *object)
{
	pr_info("kmend-test: post_unpatch of %s\\n", object->name);
}

static const struct klp_callbacks dummy_callbacks __used __section(".kmend.callbacks") = {
	.pre_patch = dummy_pre_patch,
	.post_unpatch = dummy_post_unpatch,
};
"""
DUMMY_CALLBACK_EDITS = (
    ("\nstatic int numdummies = 1;\n", f"{DUMMY_CALLBACKS}\nstatic int numdummies = 1;\n"),
    ("\tif (new_carrier)\n", '\tnetdev_info(dev, "kmend was here\\n");\n\tif (new_carrier)\n'),
)
"""Edits of drivers/net/dummy.c, a module: a function, and callbacks that tell of it."""

BUSY = """
static int version_pre_patch(struct klp_object *object)
{
	return -EBUSY;
}

static const struct klp_callbacks version_callbacks __used __section(".kmend.callbacks") = {
	.pre_patch = version_pre_patch,
};
"""
BUSY_EDITS = (
    ("#include <linux/utsname.h>\n", "#include <linux/utsname.h>\n#include <linux/livepatch.h>\n"),
    ("\nstatic int __init proc_version_init", f"{BUSY}\nstatic int __init proc_version_init"),
)
"""Edits of fs/proc/version.c: nothing but a callback that refuses."""

RCU_EDITS = (
    ("#include <linux/utsname.h>\n", "#include <linux/utsname.h>\n#include <linux/slab.h>\n"),
    (
        "\nstatic int version_proc_show(struct seq_file *m, void *v)\n{\n",
        """
static void version_freed(struct rcu_head *head)
{
	pr_info("kmend-test: freed\\n");
	kfree(head);
}

static int version_proc_show(struct seq_file *m, void *v)
{
	struct rcu_head *head = kmalloc(sizeof(*head), GFP_KERNEL);

	if (head)
		call_rcu(head, version_freed);
""",
    ),
)
"""Edits of fs/proc/version.c: each read leaves an RCU callback of the livepatch behind."""
