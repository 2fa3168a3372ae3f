// Stops a file system as if its power were cut: EXT4_IOC_SHUTDOWN (the same number as XFS_IOC_GOINGDOWN)
// without flushing its journal. The crate forbids `unsafe`, and an ioctl has no safe form.

#include <cstdint>
#include <cstdio>
#include <fcntl.h>
#include <sys/ioctl.h>

int main(int count, char **words) {
    uint32_t without_log_flush = 2;
    int folder = count == 2 ? open(words[1], O_RDONLY | O_DIRECTORY) : -1;
    if (folder < 0 || ioctl(folder, _IOR('X', 125, uint32_t), &without_log_flush) != 0) {
        perror("power_cut");
        return 1;
    }
    return 0;
}
