void register_late(void);

__attribute__((section(".init_array"), used)) static void (*const late)(void) = register_late;
