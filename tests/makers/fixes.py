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
