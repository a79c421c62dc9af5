/* Preloaded with libfaketime, which sets librdkafka's deadlines by the false clock and knows nothing of the C11 call
   that waits for them: glibc would compare them with the true one, and wait for a day, or not at all. */

int pthread_cond_timedwait(void *condition, void *mutex, const void *deadline);

enum { SUCCESS = 0, ERROR = 2, TIMED_OUT = 4, POSIX_TIMED_OUT = 110 };

int cnd_timedwait(void *condition, void *mutex, const void *deadline) {
    switch (pthread_cond_timedwait(condition, mutex, deadline)) {
    case 0:
        return SUCCESS;
    case POSIX_TIMED_OUT:
        return TIMED_OUT;
    default:
        return ERROR;
    }
}
