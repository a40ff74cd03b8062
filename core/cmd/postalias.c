/* postalias(1): postmap with the syntax of aliases(5). */
#include "core/cmd/cmd.h"
#include "core/cmd/postmap_run.h"

int cmd_postalias(int argc, char **argv)
{
    return postmap_run("postalias", true, argc, argv);
}
