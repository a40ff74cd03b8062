/* addr: IPv4 and IPv6 addresses and networks, parsed and printed as Postfix does. Values. */
#ifndef IO_NET_ADDR_H
#define IO_NET_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>
#include "io/base/arena.h"
#include "io/base/err.h"

#define ADDR_TEXT_MAX 64 /* longest printed form, with NUL */

struct addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage ss;
        struct sockaddr_un_any {
            sa_family_t family;
            char path[108];
        } un;
    };
    socklen_t len;
};

/* "127.0.0.1", "::1": no brackets, no port. */
bool addr_parse(struct str text, uint16_t port, struct addr *out);
/* RFC 5321 §4.1.3 literal without brackets: "127.0.0.1" or "IPv6:::1". */
bool addr_parse_literal(struct str text, uint16_t port, struct addr *out);
/* Numeric address, no port, no brackets; unix sockets print "unknown". Fills and returns text_out. */
const char *addr_text(const struct addr *a, char text_out[ADDR_TEXT_MAX]);
uint16_t addr_port(const struct addr *a);
void addr_set_port(struct addr *a, uint16_t port);
bool addr_eq_host(const struct addr *a, const struct addr *b); /* ports ignored */
/* in6 mapped IPv4 becomes plain IPv4. */
void addr_unmap(struct addr *a);

/* "192.168.0.0/16", "[2001:db8::]/32", a bare address is one host. Host bits set: ERR_CONFIG with
 * Postfix's words ("non-null host address bits in ..., perhaps you should use ... instead"). */
struct cidr {
    sa_family_t family;
    uint8_t bits;
    uint8_t bytes[16];
};
struct err *cidr_parse(struct str text, struct cidr *out) MUST_USE;
bool cidr_match(const struct cidr *c, const struct addr *a);

/* The host's own interface addresses, with their netmask widths, in arena memory. */
struct own_addr {
    struct addr addr;
    uint8_t bits;
};
struct err *addr_own_interfaces(struct arena *a, struct own_addr **list_out, size_t *n_out) MUST_USE;

#endif
