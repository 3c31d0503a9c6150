/*
 * injected-once: proves on a bare machine that VMRUN delivers an injected interrupt (EVENTINJ) once.
 *
 * The guest's handler moves a device's registers away and back, which makes work for the CPU on which it runs: the
 * emulator leaves its execution loop and comes back to the guest. Delivered again there, the interrupt is counted.
 * That is chance, if a good one; so there are eight. Says "N of 8 delivered twice" on the first serial port, and resets
 * the machine.
 */
        .set    TIMES, 8
        .set    VECTOR, 0x40
        .set    EFER, 0xc0000080
        .set    EFER_SVME, 1 << 12
        .set    VM_HSAVE_PA, 0xc0010117
        .set    SERIAL, 0x3f8

        /* Fields of the VMCB: AMD's manual, volume 2, appendix B. */
        .set    INTERCEPT_MISC, 0x10
        .set    INTERCEPT_VMRUN_VMMCALL, 3
        .set    ASID, 0x58
        .set    EXITCODE, 0x70
        .set    EVENTINJ, 0xa8
        .set    EVENTINJ_VALID, 1 << 31
        .set    VMEXIT_VMMCALL, 0x81
        .set    SEGMENTS, 0x400         /* es cs ss ds fs gs gdtr ldtr idtr tr; selector, attributes, limit, base */
        .set    SAVED_EFER, 0x4d0
        .set    SAVED_CR0, 0x558
        .set    SAVED_DR7, 0x560
        .set    SAVED_DR6, 0x568
        .set    SAVED_RFLAGS, 0x570
        .set    SAVED_RIP, 0x578
        .set    SAVED_RSP, 0x5d8

        .section .multiboot, "a"
        .align  4
        .long   0x1badb002, 0, -0x1badb002

        .text
        .code32
        .globl  _start
_start: mov     $stack_end, %esp
        lgdt    gdtr
        ljmp    $8, $1f
1:      mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss

        mov     $0xff, %al              /* no interrupts but that one */
        out     %al, $0x21
        out     %al, $0xa1
        mov     $handler, %eax          /* an interrupt gate */
        mov     %ax, idt + VECTOR * 8
        movw    $8, idt + VECTOR * 8 + 2
        movw    $0x8e00, idt + VECTOR * 8 + 4
        shr     $16, %eax
        mov     %ax, idt + VECTOR * 8 + 6

        mov     $EFER, %ecx
        rdmsr
        or      $EFER_SVME, %eax
        wrmsr
        mov     $VM_HSAVE_PA, %ecx
        mov     $host_save, %eax
        xor     %edx, %edx
        wrmsr

        mov     $vmcb, %edi
        movl    $INTERCEPT_VMRUN_VMMCALL, INTERCEPT_MISC(%edi)
        movl    $1, ASID(%edi)
        mov     $EFER, %ecx
        rdmsr
        mov     %eax, SAVED_EFER(%edi)
        mov     %cr0, %eax
        mov     %eax, SAVED_CR0(%edi)
        movl    $0x400, SAVED_DR7(%edi)
        movl    $0xffff0ff0, SAVED_DR6(%edi)
        lea     SEGMENTS(%edi), %ebx    /* flat, as here */
        mov     $4, %ecx
2:      movl    $0x0c930010, (%ebx)
        movl    $0xffffffff, 4(%ebx)
        add     $16, %ebx
        loop    2b
        movl    $0x0c9b0008, SEGMENTS + 16(%edi)
        movl    $gdtr - gdt - 1, SEGMENTS + 6 * 16 + 4(%edi)
        movl    $gdt, SEGMENTS + 6 * 16 + 8(%edi)
        movl    $idt_end - idt - 1, SEGMENTS + 8 * 16 + 4(%edi)
        movl    $idt, SEGMENTS + 8 * 16 + 8(%edi)

again:  mov     $vmcb, %eax
        movl    $EVENTINJ_VALID | VECTOR, EVENTINJ(%eax)
        movl    $0x202, SAVED_RFLAGS(%eax)
        movl    $guest, SAVED_RIP(%eax)
        movl    $guest_stack_end, SAVED_RSP(%eax)
        vmrun   %eax
        mov     $refused, %esi
        cmpl    $VMEXIT_VMMCALL, vmcb + EXITCODE
        jne     3f
        decl    left
        jnz     again

        mov     $said, %esi
        mov     count, %al
        sub     $TIMES - '0', %al
        mov     %al, said
3:      mov     $SERIAL, %dx
4:      lodsb
        test    %al, %al
        jz      5f
        out     %al, %dx
        jmp     4b
5:      lidt    nowhere                 /* a triple fault */
        ud2

/* The guest never gets here: the handler does not return. */
guest:  ud2

handler:
        incl    count
        mov     $0x80000004 | 8 << 11, %eax     /* command register of 00:08.0 */
        mov     $0xcf8, %dx
        out     %eax, %dx
        mov     $0xcfc, %dx
        mov     $4, %ecx
6:      xor     %eax, %eax              /* its memory goes, and comes */
        out     %ax, %dx
        mov     $2, %eax
        out     %ax, %dx
        loop    6b
        vmmcall

        .data
        .align  8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word   gdtr - gdt - 1
        .long   gdt
nowhere: .word  0
        .long   0
left:   .long   TIMES
count:  .long   0
refused: .asciz "VMRUN refused\n"
said:   .asciz  "0 of 8 delivered twice\n"

        .bss
        .align  4096
vmcb:   .skip   4096
host_save: .skip 4096
idt:    .skip   (VECTOR + 1) * 8
idt_end:
        .align  16
        .skip   1024
stack_end:
        .skip   1024
guest_stack_end:
