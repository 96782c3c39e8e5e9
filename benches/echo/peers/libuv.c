/* Echo on libuv: an allocation for each write that is not taken at once, as its guide has it,
 * and one buffer for what is read. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <uv.h>

static char read_buffer[64 * 1024 + 256];

typedef struct {
    uv_write_t request;
    char data[];
} pending;

static void on_close(uv_handle_t *handle) { free(handle); }

static void on_written(uv_write_t *request, int status) {
    if (status < 0 && !uv_is_closing((uv_handle_t *)request->handle))
        uv_close((uv_handle_t *)request->handle, on_close);
    free(request);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    if (count < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (count == 0) return;
    uv_buf_t data = uv_buf_init(buffer->base, (unsigned)count);
    /* Nothing may overtake what waits already: then it says UV_EAGAIN. */
    int sent = uv_try_write(stream, &data, 1);
    if (sent == UV_EAGAIN) sent = 0;
    if (sent < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (sent == count) return;
    size_t rest = (size_t)(count - sent);
    pending *waiting = malloc(sizeof *waiting + rest);
    memcpy(waiting->data, buffer->base + sent, rest);
    data = uv_buf_init(waiting->data, (unsigned)rest);
    if (uv_write(&waiting->request, stream, &data, 1, on_written) < 0) {
        free(waiting);
        uv_close((uv_handle_t *)stream, on_close);
    }
}

static void on_connection(uv_stream_t *server, int status) {
    if (status < 0) return;
    uv_tcp_t *client = malloc(sizeof *client);
    uv_tcp_init(server->loop, client);
    if (uv_accept(server, (uv_stream_t *)client) < 0) {
        uv_close((uv_handle_t *)client, on_close);
        return;
    }
    uv_tcp_nodelay(client, 1);
    uv_read_start((uv_stream_t *)client, on_alloc, on_read);
}

int main(void) {
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t server;
    struct sockaddr_in address;
    int length = sizeof address;
    uv_tcp_init(loop, &server);
    uv_ip4_addr("127.0.0.1", 0, &address);
    if (uv_tcp_bind(&server, (struct sockaddr *)&address, 0) < 0) return 1;
    if (uv_listen((uv_stream_t *)&server, 1024, on_connection) < 0) return 1;
    if (uv_tcp_getsockname(&server, (struct sockaddr *)&address, &length) < 0) return 1;
    printf("127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
