/* Echo of datagrams on libuv: sent at once where the system takes it, and else, as its guide has it,
 * from an allocation of its own. One buffer for what is received. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <uv.h>

static char read_buffer[64 * 1024];

typedef struct {
    uv_udp_send_t request;
    char data[];
} pending;

static void on_sent(uv_udp_send_t *request, int status) {
    (void)status;
    free(request);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void on_datagram(uv_udp_t *socket, ssize_t count, const uv_buf_t *buffer,
                        const struct sockaddr *from, unsigned flags) {
    (void)flags;
    /* Without a sender: nothing is left. */
    if (count < 0 || from == NULL) return;
    uv_buf_t data = uv_buf_init(buffer->base, (unsigned)count);
    if (uv_udp_try_send(socket, &data, 1, from) != UV_EAGAIN) return;
    pending *waiting = malloc(sizeof *waiting + (size_t)count);
    memcpy(waiting->data, buffer->base, (size_t)count);
    data = uv_buf_init(waiting->data, (unsigned)count);
    if (uv_udp_send(&waiting->request, socket, &data, 1, from, on_sent) < 0) free(waiting);
}

int main(void) {
    uv_loop_t *loop = uv_default_loop();
    uv_udp_t socket;
    struct sockaddr_in address;
    int length = sizeof address;
    uv_udp_init(loop, &socket);
    uv_ip4_addr("127.0.0.1", 0, &address);
    if (uv_udp_bind(&socket, (struct sockaddr *)&address, 0) < 0) return 1;
    if (uv_udp_getsockname(&socket, (struct sockaddr *)&address, &length) < 0) return 1;
    if (uv_udp_recv_start(&socket, on_alloc, on_datagram) < 0) return 1;
    printf("127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
