  ;; What both stand-ins for WASI share: bytes that a module prints become lines of its log.

  ;; Says what lies at $at, line by line; empty lines are left out. The bytes are mended in place.
  (func $say (param $level i32) (param $at i32) (param $bytes i32)
    (local $end i32) (local $start i32)
    (call $mend (local.get $at) (local.get $bytes))
    (local.set $end (i32.add (local.get $at) (local.get $bytes)))
    (local.set $start (local.get $at))
    (loop $next
      (if (i32.or (i32.eq (local.get $at) (local.get $end)) (call $is_break (local.get $at) (local.get $end)))
        (then
          (if (i32.gt_u (local.get $at) (local.get $start))
            (then (call $write (local.get $level) (local.get $start)
              (i32.sub (local.get $at) (local.get $start)))))
          (local.set $start (i32.add (local.get $at) (i32.const 1)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $at) (local.get $end)))))

  (func $is_break (param $at i32) (param $end i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $at) (local.get $end))
      (then (i32.eq (i32.load8_u (local.get $at)) (i32.const 10)))
      (else (i32.const 0))))

  ;; Puts `?` in the place of every byte that is not part of well-formed UTF-8: the log takes nothing else.
  (func $mend (param $at i32) (param $bytes i32)
    (local $end i32) (local $more i32)
    (local.set $end (i32.add (local.get $at) (local.get $bytes)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $more (call $continues (local.get $at) (local.get $end)))
        (if (i32.lt_s (local.get $more) (i32.const 0))
          (then (i32.store8 (local.get $at) (i32.const 63)) (local.set $more (i32.const 0))))
        (local.set $at (i32.add (i32.add (local.get $at) (local.get $more)) (i32.const 1)))
        (br $next))))

  ;; How many bytes go on with the character at $at; -1 if there is none.
  (func $continues (param $at i32) (param $end i32) (result i32)
    (local $first i32) (local $second i32) (local $more i32) (local $n i32)
    (local.set $first (i32.load8_u (local.get $at)))
    (if (i32.lt_u (local.get $first) (i32.const 0x80)) (then (return (i32.const 0))))
    (local.set $more
      (i32.sub
        (i32.add
          (i32.add (i32.ge_u (local.get $first) (i32.const 0xc2)) (i32.ge_u (local.get $first) (i32.const 0xe0)))
          (i32.ge_u (local.get $first) (i32.const 0xf0)))
        (i32.shl (i32.ge_u (local.get $first) (i32.const 0xf5)) (i32.const 2))))
    (if (i32.le_s (local.get $more) (i32.const 0)) (then (return (i32.const -1))))
    (if (i32.le_u (i32.sub (local.get $end) (local.get $at)) (local.get $more))
      (then (return (i32.const -1))))
    (loop $next
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (if (i32.ne (i32.const 0x80)
            (i32.and (i32.load8_u (i32.add (local.get $at) (local.get $n))) (i32.const 0xc0)))
        (then (return (i32.const -1))))
      (br_if $next (i32.lt_u (local.get $n) (local.get $more))))
    ;; No overlong form, no surrogate, nothing above U+10FFFF.
    (local.set $second (i32.load8_u offset=1 (local.get $at)))
    (if (i32.or
          (i32.or
            (i32.and (i32.eq (local.get $first) (i32.const 0xe0)) (i32.lt_u (local.get $second) (i32.const 0xa0)))
            (i32.and (i32.eq (local.get $first) (i32.const 0xed)) (i32.gt_u (local.get $second) (i32.const 0x9f))))
          (i32.or
            (i32.and (i32.eq (local.get $first) (i32.const 0xf0)) (i32.lt_u (local.get $second) (i32.const 0x90)))
            (i32.and (i32.eq (local.get $first) (i32.const 0xf4)) (i32.gt_u (local.get $second) (i32.const 0x8f)))))
      (then (return (i32.const -1))))
    (local.get $more))
